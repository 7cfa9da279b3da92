"""How this program and a Dask cluster of other machines know each other: TLS, or a warning.

    tls = TlsFiles("ca.pem", "cert.pem", "key.pem")
    client = distributed.Client("tls://10.0.0.1:8786", security=security_for(address, tls))

Dask sends Python objects as pickles, and opening a pickle can run any code. With TLS, only
processes with a certificate of the cluster's own authority are heard. Without it, all who reach a
port of the cluster can run code on all of its machines.
"""

import ipaddress
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

from nuclei.cli import positive
from nuclei.files import first_line

ENCRYPTED = ("tls", "wss")  # schemes of Dask's addresses
NEEDED = "--tls-ca-file, --tls-cert and --tls-key, or Dask's own configuration"


@dataclass(frozen=True)
class TlsFiles:
    """Paths of PEM files, as `dask scheduler` and `dask worker` take them.

    Attributes:
        ca_file: certificate of the authority that signed the certificates of the cluster.
        cert: certificate of this program.
        key: its private key.
    """

    ca_file: str
    cert: str
    key: str


def add_cluster_flags(add) -> None:
    """Add the flags of work in several processes. Args: add: of a parser, or a group of one."""
    text = "use the workers of this Dask scheduler (default: no cluster)"
    add("--scheduler", metavar="TLS://HOST:PORT", help=text)
    text = "use N processes of this machine, which share its cores and GPUs (default: none)"
    add("--workers", type=positive, metavar="N", help=text)
    text = "certificate of the cluster's authority, as of `dask scheduler` "
    add("--tls-ca-file", metavar="PEM", help=text + "(default: Dask's settings)")
    add("--tls-cert", metavar="PEM", help="certificate of this program (default: Dask's settings)")
    add("--tls-key", metavar="PEM", help="its private key (default: Dask's settings)")


def tls_of(args, refuse) -> TlsFiles | None:
    """The TLS files that the flags name, or None. Args: refuse: called with what is wrong."""
    files = (args.tls_ca_file, args.tls_cert, args.tls_key)
    if not any(files):
        return None
    if not all(files):
        refuse("--tls-ca-file, --tls-cert and --tls-key belong together: give all three")
    if not args.scheduler:
        refuse("--tls-ca-file is for --scheduler; --workers is encrypted without it")
    return TlsFiles(*files)


def security_for(address: str, tls: TlsFiles | None):
    """Dask's security settings for a scheduler; warns on stderr where the way there is open.

    Args:
        address: of the scheduler, such as "tls://10.0.0.1:8786".
        tls: the files; None takes Dask's own configuration.

    Returns:
        A `distributed.Security`.

    Raises:
        ValueError: files and address do not fit each other, or the files cannot be read.
    """
    import distributed

    scheme, host = split_address(address)
    if tls and scheme not in ENCRYPTED:
        raise ValueError(
            f"--scheduler {address} is not encrypted, and --tls-ca-file is given; start the "
            "scheduler with the same three flags and give its tls:// address"
        )
    if tls:
        for path in astuple(tls):
            if not Path(path).is_file():
                raise ValueError(f"{path}: no such file; --scheduler {address} needs {NEEDED}")
        security = distributed.Security(
            tls_ca_file=tls.ca_file,
            tls_client_cert=tls.cert,
            tls_client_key=tls.key,
            require_encryption=True,
        )
    else:
        security = distributed.Security()
    if scheme in ENCRYPTED:
        check(security, address)
    elif not is_loopback(host):
        print(
            f"predict.py: warning: {address} is neither encrypted nor protected: all who reach it "
            "can run code on its machines and on this one; use TLS (docs/several-machines.md)",
            file=sys.stderr,
        )
    return security


def check(security, address: str) -> None:
    """Open the files of a `distributed.Security`. Raises: ValueError, if that fails."""
    try:
        context = security.get_connection_args("client")["ssl_context"]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ValueError(
            f"the certificate for {address} cannot be read ({first_line(error)}); expected three "
            f"PEM files that belong together, from {NEEDED}"
        ) from None
    if context is None:
        raise ValueError(f"--scheduler {address} needs {NEEDED}")


def split_address(address: str) -> tuple[str, str]:
    """The scheme and the host of an address of Dask."""
    from distributed.comm.addressing import parse_address, parse_host_port

    scheme, location = parse_address(address)  # takes "tcp" where there is none
    try:
        host, _ = parse_host_port(location, 0)
    except ValueError:
        raise ValueError(f"--scheduler is {address}; expected tls://HOST:PORT") from None
    return scheme, host


def is_loopback(host: str) -> bool:
    """Whether an address of a host leads to this machine by way of no network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
