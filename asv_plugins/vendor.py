"""The third-party JavaScript and CSS of the site: what it is, and that it is unchanged.

``python -m asv_plugins.vendor`` fetches the packages again with the npm client, at the versions in
``site/vendor/manifest.json``, copies the files that the manifest lists, and writes their checksums.
To update one, change its version there first; look at the difference before you commit it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "site" / "vendor"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored(package: dict, file: dict) -> Path:
    """Where a package's file lies in the vendor folder: as in the package, less its ``dist``."""
    return Path(package["package"], Path(file["file"].removeprefix("dist/")))


def load_manifest(vendor: Path = VENDOR) -> dict:
    """Read the manifest: packages, each with its version, licence and files."""
    return json.loads((vendor / "manifest.json").read_text())


def verify(vendor: Path = VENDOR) -> dict:
    """
    Check every vendored file against the manifest, and return the manifest.

    Raises
    ------
    ValueError
        If a file is missing, differs from its checksum, or is not in the manifest.
    """
    manifest = load_manifest(vendor)
    listed = {vendor / "manifest.json"}
    for package in manifest["packages"]:
        for file in package["files"]:
            path = vendor / stored(package, file)
            listed.add(path)
            if not path.is_file():
                raise ValueError(f"{path}: in manifest.json, but missing")
            found = checksum(path)
            if found != file["sha256"]:
                raise ValueError(f"{path}: SHA-256 is {found}, manifest.json has {file['sha256']}")
    for path in vendor.rglob("*"):
        if path.is_file() and path not in listed:
            raise ValueError(f"{path}: not in manifest.json")
    return manifest


def refresh(vendor: Path = VENDOR) -> None:
    """Fetch the manifest's packages with npm and write the files and their checksums."""
    manifest = load_manifest(vendor)
    for package in manifest["packages"]:
        spec = f"{package['package']}@{package['version']}"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", spec], cwd=folder, check=True, timeout=300)
            (archive,) = Path(folder).glob("*.tgz")
            shutil.unpack_archive(archive, folder, filter="data")
            for file in package["files"]:
                target = vendor / stored(package, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(folder, "package", file["file"]), target)
                file["sha256"] = checksum(target)
    (vendor / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    refresh()
