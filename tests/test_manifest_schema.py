"""The shipped JSON Schema describes the manifests that are written."""

import json
from pathlib import Path

import jsonschema
import pytest

import recgym

SCHEMA = json.loads((Path(recgym.__file__).parent / "manifest.schema.json").read_text())


def test_a_written_manifest_fits_the_schema():
    log = recgym.prepare("demo", name="demo")
    manifest = json.loads((log.path / "manifest.json").read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(manifest, SCHEMA)
    for key in ("columns", "counts", "protocol"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in manifest.items() if k != key}, SCHEMA)
