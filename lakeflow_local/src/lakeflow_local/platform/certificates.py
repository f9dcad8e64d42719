"""Certificates: the trust store of every JVM, and those of the embedded MySQL-compatible server."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import warnings
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from lakeflow_local.files import replace
from lakeflow_local.home import Home

# A trust store holds public certificates only; the password is the one that Java itself uses by default.
TRUST_STORE_PASSWORD = "changeit"
# One round of key derivation in the place of thousands, since Connector/J decrypts the store for each connection.
_ENCRYPTION = (
    serialization.PrivateFormat.PKCS12.encryption_builder()
    .kdf_rounds(1)
    .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
    .hmac_hash(hashes.SHA256())
    .build(TRUST_STORE_PASSWORD.encode())
)


def trust_store(home: Home) -> Path | None:
    """A Java trust store with the authorities that this machine trusts, or None where it has no such bundle.

    A Java of its own knows public authorities only; a company's own are in `SSL_CERT_FILE` or in the file that
    the distribution keeps.
    """
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if not bundle or not Path(bundle).is_file():
        return None
    pem = Path(bundle).read_bytes()
    store = home.path / "java" / f"trust-{sha256(pem).hexdigest()[:16]}.p12"
    if not store.exists():
        with warnings.catch_warnings():
            # Distributions carry authorities older than today's rules for serial numbers and extensions.
            warnings.simplefilter("ignore")
            authorities = [
                pkcs12.PKCS12Certificate(certificate, str(number).encode())
                for number, certificate in enumerate(x509.load_pem_x509_certificates(pem))
            ]
            data = pkcs12.serialize_java_truststore(authorities, _ENCRYPTION)
        store.parent.mkdir(parents=True, exist_ok=True)
        replace(store, data)
    return store


def server_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """An authority and a certificate for 127.0.0.1, made once.

    The keys are elliptic curve ones: MariaDB without a certificate makes an RSA key at every start, for seconds.
    The authority's own key is not kept, so nothing else can ever be signed in its name.

    Returns:
        the files of the authority, the certificate and its key.
    """
    authority_file, certificate_file, key_file = (folder / name for name in ("ca.pem", "server.pem", "server.key"))
    if not certificate_file.exists():
        authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = _sign("lakeflow-local authority", authority_key, None, authority_key)
        certificate = _sign("lakeflow-local", key, authority, authority_key)
        folder.mkdir(parents=True, exist_ok=True)
        pem = serialization.Encoding.PEM
        replace(
            key_file,
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
            mode=0o600,
        )
        replace(authority_file, authority.public_bytes(pem))
        replace(certificate_file, certificate.public_bytes(pem))
    return authority_file, certificate_file, key_file


def _sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    issuer_key = authority_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    if authority:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())
