"""Bundles: the manifest, the folder or archive, and the golden images; importable without the build extra."""

from __future__ import annotations

from edgec.package.bundle import Bundle, open_bundle, pack_bundle, require_replaceable, write_archive
from edgec.package.golden import Golden, golden_bytes, read_golden
from edgec.package.manifest import (
    BuildPlan,
    CheckEntry,
    Description,
    FileEntry,
    Manifest,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    StageEntry,
    TargetEntry,
    UnknownEntry,
)
from edgec.package.sbom import SBOM, bill_of_materials
from edgec.package.signing import Trust, read_signed_manifest, sign_bundle, verify_signature

__all__ = [
    "SBOM",
    "BuildPlan",
    "Bundle",
    "CheckEntry",
    "Description",
    "FileEntry",
    "Golden",
    "Manifest",
    "ModelEntry",
    "OutputEntry",
    "RuntimeEntry",
    "StageEntry",
    "TargetEntry",
    "Trust",
    "UnknownEntry",
    "bill_of_materials",
    "golden_bytes",
    "open_bundle",
    "pack_bundle",
    "read_golden",
    "read_signed_manifest",
    "require_replaceable",
    "sign_bundle",
    "verify_signature",
    "write_archive",
]
