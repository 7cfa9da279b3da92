"""A cluster of other machines is reached by TLS; where it is open, the user is warned."""

import pandas as pd
import pytest
from blob_model import write_blob_model
from cluster_tools import Farm, write_certificates
from inference_tools import run_predict, write_blobs

from nuclei.inference.encryption import TlsFiles, security_for


@pytest.fixture
def flags(tmp_path):
    return write_certificates(tmp_path)


def test_a_cluster_with_certificates_hears_nobody_without(flags, tmp_path, capsys, monkeypatch):
    inputs, out = write_blobs(tmp_path / "in", 2), tmp_path / "out"
    model = write_blob_model(tmp_path / "model.h5")
    farm = Farm(tmp_path, flags)
    try:
        assert farm.address.startswith("tls://127.0.0.1")
        farm.add_worker("--no-nanny")
        to_farm = (model, out, inputs, "--scheduler", farm.address)
        assert run_predict(*to_farm, *flags) == 0
        assert len(pd.read_csv(out / "summary.csv")) == 2
        capsys.readouterr()
        assert run_predict(*to_farm, "--overwrite") == 1
        assert "--scheduler tls://127.0.0.1" in capsys.readouterr().err
        (tmp_path / "other").mkdir()
        others = write_certificates(tmp_path / "other")
        monkeypatch.setattr("nuclei.inference.cluster.ANSWER_SECONDS", 1)
        assert run_predict(*to_farm, "--overwrite", *others) == 1
        error = capsys.readouterr().err
        assert "no Dask scheduler answers" in error and "Traceback" not in error
    finally:
        farm.close()


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("tcp://10.0.0.1:8786", True),
        ("10.0.0.1:8786", True),
        ("ws://cluster.example.org:8786", True),
        ("tcp://[2001:db8::1]:8786", True),
        ("tcp://0.0.0.0:8786", True),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://localhost:8786", False),
        ("tcp://[::1]:8786", False),
    ],
)
def test_one_warning_where_the_way_to_the_scheduler_is_open(address, is_open, capsys):
    security_for(address, None)
    error = capsys.readouterr().err
    assert error.count("\n") == is_open and ("can run code" in error) == is_open


def test_certificates_do_not_warn_and_what_is_wrong_with_them_is_said(flags, tmp_path, capsys):
    files = TlsFiles(*flags[1::2])
    assert security_for("tls://10.0.0.1:8786", files).require_encryption
    assert not capsys.readouterr().err
    with pytest.raises(ValueError, match="is not encrypted, and --tls-ca-file is given"):
        security_for("tcp://10.0.0.1:8786", files)
    with pytest.raises(ValueError, match="needs --tls-ca-file, --tls-cert and --tls-key"):
        security_for("tls://10.0.0.1:8786", None)
    with pytest.raises(ValueError, match="none.pem: no such file"):
        security_for("tls://10.0.0.1:8786", TlsFiles(files.ca_file, files.cert, "none.pem"))
    swapped = TlsFiles(files.ca_file, files.key, files.key)
    with pytest.raises(ValueError, match="expected three PEM files that belong together"):
        security_for("tls://10.0.0.1:8786", swapped)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--workers", "2"), "is for --scheduler"),
        (("--scheduler", "tls://10.0.0.1:8786", "--tls-key", ""), "give all three"),
    ],
)
def test_flags_of_certificates_go_together(flags, given, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_predict(tmp_path / "model.h5", tmp_path / "out", tmp_path, *flags, *given)
    assert message in capsys.readouterr().err


def test_dasks_own_configuration_is_taken(flags):
    import dask

    names = ("ca-file", "client.cert", "client.key")
    settings = {
        f"distributed.comm.tls.{name}": path for name, path in zip(names, flags[1::2], strict=True)
    }
    with dask.config.set(settings):
        security = security_for("tls://10.0.0.1:8786", None)
    assert security.tls_client_key == flags[-1]
