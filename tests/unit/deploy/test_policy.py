"""What root allows on a device: whose bundles, which one, for what target, from which release on."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.deploy import Site
from edgec.deploy.policy import SitePolicy, read_policy

Make = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def site(root: Path) -> Callable[..., Site]:
    """The site, with a policy of these fields."""
    return lambda **fields: Site(root, policy=SitePolicy(root=root, **fields), smoke_test=lambda _: None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "cameras"}, "the bundle is 'linear-host', this device takes 'cameras'"),
        ({"target": "rpi5"}, "the bundle was built for 'host', this device takes 'raspberry-pi-5'"),
        ({"lowest_release": 3}, "'linear-host' is release 2, below 3"),
    ],
)
def test_another_product_never_runs(site: Callable[..., Site], make_bundle: Make, fields: dict, message: str) -> None:
    allowed = site()
    digest = allowed.install(make_bundle(release=2))
    with pytest.raises(IntegrityError, match=message):
        site(**fields).activate(digest, allow_downgrade=True)
    assert allowed.activate(digest).digest == digest


def test_a_bundle_is_not_switched_to_after_its_last_day(site: Callable[..., Site], make_bundle: Make) -> None:
    here = site()
    yesterday, today = (datetime.now(timezone.utc).date() - timedelta(days=days) for days in (1, 0))
    expired, valid = (here.install(make_bundle(f"{day}", expires=day)) for day in (yesterday, today))
    with pytest.raises(IntegrityError, match=f"'linear-host' expired on {yesterday}; here it is {today}"):
        here.activate(expired, allow_downgrade=True)
    assert here.activate(valid).digest == valid


def test_what_runs_may_expire_and_be_gone_back_to(
    site: Callable[..., Site], make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without a model serves nobody: the date keeps old bundles from coming, and takes none away."""
    here = site()
    first, second = (here.install(make_bundle(f"{n}", release=n, expires=date(2020, 1, 1))) for n in (1, 2))
    with monkeypatch.context() as patch:
        patch.setattr("edgec.deploy.site.require_not_expired", lambda *_: None)
        here.activate(first)
        here.activate(second)
    assert here.activate(second).digest == second
    back = here.rollback()
    assert back is not None
    assert back.digest == first


def test_what_is_revoked_is_not_gone_back_to(site: Callable[..., Site], make_bundle: Make) -> None:
    old, new = (site().install(make_bundle(f"r{n}", release=n)) for n in (1, 2))
    site().activate(old)
    site().activate(new)
    with pytest.raises(IntegrityError, match="is revoked"):
        site(revoked=(old,)).rollback()
    assert site().rollback() is not None


def test_a_release_that_ran_is_remembered_by_a_site_that_was_set_up_anew(
    site: Callable[..., Site], make_bundle: Make, root: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "memory.json"
    first = site(memory=memory)
    first.activate(first.install(make_bundle("new", release=7)))
    root.rename(tmp_path / "before")
    again = site(memory=memory)
    old = again.install(make_bundle("old", release=6))
    with pytest.raises(IntegrityError, match="is release 6, but release 7 ran here"):
        again.activate(old, allow_downgrade=True)
    assert json.loads(memory.read_text()) == {"release": 7}
    memory.write_text("{")
    with pytest.raises(ConfigError, match="cannot read"):
        again.activate(old)


def test_a_lower_release_does_not_come_back_after_a_rollback(site: Callable[..., Site], make_bundle: Make) -> None:
    here = site()
    for release in (2, 3):
        here.activate(here.install(make_bundle(f"r{release}", release=release)))
    here.rollback()
    other = here.install(make_bundle("other", release=2, edgec="another"))
    with pytest.raises(IntegrityError, match="is release 2, but release 3 ran here"):
        here.activate(other)
    assert here.activate(other, allow_downgrade=True).digest == other


class TestTheFile:
    def written(self, folder: Path, text: str, mode: int = 0o644) -> Path:
        path = folder / "policy.toml"
        path.write_text(text)
        path.chmod(mode)
        folder.chmod(0o755)
        return path

    def test_a_site_has_its_own_table(self, tmp_path: Path, root: Path) -> None:
        path = self.written(tmp_path, f'[[site]]\nroot = "{root}"\nname = "cameras"\n')
        found = read_policy(root, path)
        assert found is not None
        assert found.name == "cameras"
        with pytest.raises(ConfigError, match="names no site '/srv/other'"):
            read_policy(Path("/srv/other"), path)

    def test_without_one_nothing_is_asked(self, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("edgec.deploy.policy.POLICY", tmp_path / "absent.toml")
        assert read_policy(root) is None

    def test_one_that_others_may_write_is_refused(self, tmp_path: Path, root: Path) -> None:
        path = self.written(tmp_path, f'[[site]]\nroot = "{root}"\n', mode=0o666)
        with pytest.raises(ConfigError, match="expected root's own that nobody else may write"):
            read_policy(root, path)
        path.chmod(0o644)
        tmp_path.chmod(0o777)
        with pytest.raises(ConfigError, match="mode 777"):
            read_policy(root, path)

    def test_a_link_is_refused(self, tmp_path: Path, root: Path) -> None:
        path = self.written(tmp_path, f'[[site]]\nroot = "{root}"\n')
        (tmp_path / "link.toml").symlink_to(path)
        with pytest.raises(ConfigError, match="nobody else may write"):
            read_policy(root, tmp_path / "link.toml")


class TestSignatures:
    """Keys of a policy, and signatures of versions that are installed."""

    @pytest.fixture
    def keys(self, tmp_path: Path) -> dict[str, Path]:
        pytest.importorskip("model_signing", reason="needs model-signing")
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        for name in ("old", "new", "foreign"):
            key = ec.generate_private_key(ec.SECP256R1())
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            (tmp_path / f"{name}.pem").write_bytes(private)
            public = key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            (tmp_path / f"{name}.pub").write_bytes(public)
        return {name: tmp_path / f"{name}.pem" for name in ("old", "new", "foreign")}

    @pytest.fixture
    def signed(self, make_bundle: Make, keys: dict[str, Path]) -> Callable[[str], Path]:
        from edgec.package import sign_bundle

        def make(name: str) -> Path:
            path = make_bundle(f"by-{name}")
            sign_bundle(path, key=keys[name])
            return path

        return make

    def test_each_of_two_keys_is_taken_until_one_is_taken_out(
        self, site: Callable[..., Site], signed: Callable[[str], Path], keys: dict[str, Path]
    ) -> None:
        public = {name: path.with_suffix(".pub") for name, path in keys.items()}
        both = site(keys=(public["old"], public["new"]))
        digest = both.install(signed("old"))
        assert both.activate(digest).digest == digest
        with pytest.raises(IntegrityError, match="none of the 2 that are trusted made it"):
            both.install(signed("foreign"))
        with pytest.raises(IntegrityError):
            site(keys=(public["new"],)).activate(digest)

    def test_a_signature_that_was_taken_away_never_takes_the_place_of_one_that_is_there(
        self, site: Callable[..., Site], signed: Callable[[str], Path], make_bundle: Make, keys: dict[str, Path]
    ) -> None:
        public = {name: path.with_suffix(".pub") for name, path in keys.items()}
        here, asking = site(), site(keys=(public["old"],))
        digest = asking.install(signed("old"))
        before = asking.status().versions
        for other in (make_bundle("stripped"), signed("foreign")):
            for one in (here, asking):
                with pytest.raises(IntegrityError):
                    one.install(other)
        assert here.status().versions == before
        assert asking.activate(digest).digest == digest

    def test_a_bundle_that_was_signed_anew_takes_the_place_of_one_whose_key_is_not_taken(
        self, site: Callable[..., Site], signed: Callable[[str], Path], make_bundle: Make, keys: dict[str, Path]
    ) -> None:
        asking = site(keys=(keys["new"].with_suffix(".pub"),))
        digest = site().install(make_bundle("unsigned"))
        asking.install(signed("new"))
        assert asking.activate(digest).signature is not None

    def test_a_foreign_bundle_leaves_nothing(
        self, site: Callable[..., Site], make_bundle: Make, root: Path, keys
    ) -> None:
        with pytest.raises(IntegrityError, match="not signed"):
            site(keys=(keys["new"].with_suffix(".pub"),)).install(make_bundle("unsigned"))
        assert list((root / "versions").iterdir()) == []


def test_what_ran_is_not_discarded(site: Callable[..., Site], make_bundle: Make) -> None:
    here = site()
    ran, never = (here.install(make_bundle(name, edgec=name)) for name in ("ran", "never"))
    here.activate(ran)
    for digest in (ran, never, ""):
        here.discard(digest)
    assert [version.digest for version in here.status().versions] == [ran]
    with pytest.raises(DataError):
        here.activate(never)
