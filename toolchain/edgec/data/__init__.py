"""Labelled and unlabelled images from folders, arrays and CIFAR sets; few-sample draws; splits that share nothing."""

from __future__ import annotations

from edgec.data.cache import Cached, Room
from edgec.data.digits import load_digits_splits
from edgec.data.few import Profile, describe_draw, draw_few, imbalance_counts
from edgec.data.folders import FolderPixels, files_of, reframed
from edgec.data.groups import Grouping
from edgec.data.leaks import Leak, find_contradictions, find_leaks
from edgec.data.loading import load_samples
from edgec.data.ood import load_ood
from edgec.data.purity import PurityReport, purify
from edgec.data.split_names import NoSplitError
from edgec.data.splits import Split, check_samples, name_file, require_disjoint, untested

__all__ = [
    "Cached",
    "FolderPixels",
    "Grouping",
    "Leak",
    "NoSplitError",
    "Profile",
    "PurityReport",
    "Room",
    "Split",
    "check_samples",
    "describe_draw",
    "draw_few",
    "files_of",
    "find_contradictions",
    "find_leaks",
    "imbalance_counts",
    "load_digits_splits",
    "load_ood",
    "load_samples",
    "name_file",
    "purify",
    "reframed",
    "require_disjoint",
    "untested",
]
