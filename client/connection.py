"""A Kafka cluster and how to log in to it."""

import os
import ssl
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    model_validator,
)

from millrace.schemas.errors import ConfigurationError
from millrace.schemas.record import Frozen, describe

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_VARIABLES = "MILLRACE_KAFKA__"


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Server = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:/,;@]+):\d{1,5}$")]
"""`host:port`."""


class KafkaConnection(Frozen):
    """A Kafka cluster, how to log in, and which topics are Millrace's.

    A model that validates can be used: what depends on several fields, and whether files are
    there, is checked with the rest, and every problem is named at once.
    """

    bootstrap_servers: Annotated[tuple[Server, ...], BeforeValidator(_split)] | None = None
    """`host:port`, several separated by commas or as a list. None: no broker is configured."""

    client_id: str = Field(default="millrace", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    """Shows in the broker's logs and quotas."""

    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    """Needed for SASL_PLAINTEXT and SASL_SSL."""
    username: str | None = Field(default=None, min_length=1)
    password: SecretStr | None = None
    password_env: str | None = Field(default=None, min_length=1)
    """The environment variable that holds the password, so that the file holds none."""

    ssl_ca_file: FilePath | None = None
    """Certificates to trust, as PEM; the system's when unset."""
    ssl_cert_file: FilePath | None = None
    """This client's certificate, as PEM, for brokers that ask for one."""
    ssl_key_file: FilePath | None = None
    """The key of `ssl_cert_file`, as PEM; unset when that file holds both."""
    ssl_key_password: SecretStr | None = None
    ssl_check_hostname: bool = True
    """False accepts any name in the broker's certificate, which must still be trusted."""

    topic_prefix: str = Field(default="llm.", pattern=r"^[a-zA-Z0-9._-]{0,100}$")
    request_timeout_seconds: float = Field(default=30.0, gt=0)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """The connection that `KAFKA_BOOTSTRAP_SERVERS` and `MILLRACE_KAFKA__…` describe.

        Raises:
            ConfigurationError: They do not make one; the message names every variable that is
                wrong.
        """
        found = {
            name: environ[f"{_VARIABLES}{name.upper()}"]
            for name in cls.model_fields
            if f"{_VARIABLES}{name.upper()}" in environ
        }
        if servers := environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            found.setdefault("bootstrap_servers", servers)
        try:
            return cls.model_validate(found)
        except ValidationError as error:
            raise ConfigurationError(f"the connection to Kafka: {describe(error)}") from error

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems(self) -> list[str]:
        """What does not fit together."""
        return [*self._login_problems(), *self._tls_problems()]

    def _login_problems(self) -> list[str]:
        given = {
            "sasl_mechanism": self.sasl_mechanism,
            "username": self.username,
            "password or password_env": self.password or self.password_env,
        }
        if self._uses_sasl:
            problems = [
                f"security_protocol {self.security_protocol} needs {name}"
                for name, value in given.items()
                if not value
            ]
        else:
            problems = [
                f"{name} is set, but security_protocol {self.security_protocol} does not log in: "
                "use SASL_SSL or SASL_PLAINTEXT"
                for name, value in given.items()
                if value
            ]
        if self.password and self.password_env:
            problems.append("password and password_env are both set: keep one")
        return problems

    def _tls_problems(self) -> list[str]:
        problems = []
        if self.ssl_key_file and not self.ssl_cert_file:
            problems.append("ssl_key_file is set, but ssl_cert_file is not")
        if self.ssl_key_password and not self.ssl_cert_file:
            problems.append("ssl_key_password is set, but ssl_cert_file is not")
        if not self._uses_tls:
            problems += [
                f"{name} is set, but security_protocol {self.security_protocol} does not encrypt: "
                "use SSL or SASL_SSL"
                for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
                if getattr(self, name)
            ]
        return problems

    @property
    def _uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    @property
    def _uses_tls(self) -> bool:
        return self.security_protocol.endswith("SSL")

    def client_kwargs(self, *, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
        """What every aiokafka client takes: consumer, producer and admin.

        Raises:
            ConfigurationError: No broker is configured, a certificate or key cannot be used, or
                the variable that `password_env` names is not set.
        """
        if self.bootstrap_servers is None:
            raise ConfigurationError(
                "no Kafka broker is configured: set KAFKA_BOOTSTRAP_SERVERS=host:port, or "
                "kafka.bootstrap_servers in the config file"
            )
        kwargs: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": round(self.request_timeout_seconds * 1000),
        }
        if self._uses_tls:
            kwargs["ssl_context"] = self._ssl_context()
        if self._uses_sasl:
            kwargs["sasl_mechanism"] = self.sasl_mechanism
            kwargs["sasl_plain_username"] = self.username
            kwargs["sasl_plain_password"] = self._password(environ)
        return kwargs

    def _password(self, environ: Mapping[str, str]) -> str:
        if self.password is not None:
            return self.password.get_secret_value()
        name = self.password_env or ""
        if password := environ.get(name):
            return password
        raise ConfigurationError(
            f"kafka.password_env: environment variable {name!r} is not set; set it"
        )

    def _ssl_context(self) -> ssl.SSLContext:
        key_password = self.ssl_key_password
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_file)
            if self.ssl_cert_file:
                context.load_cert_chain(
                    self.ssl_cert_file,
                    self.ssl_key_file,
                    # Without one, OpenSSL would ask for it at the terminal.
                    key_password.get_secret_value() if key_password else "",
                )
        except OSError as error:
            files = [self.ssl_ca_file, self.ssl_cert_file, self.ssl_key_file]
            raise ConfigurationError(
                f"kafka: TLS cannot be set up from {', '.join(str(f) for f in files if f)}: "
                f"{error.strerror or error}; the files must be PEM, the key must belong to the "
                "certificate, and an encrypted key needs kafka.ssl_key_password"
            ) from error
        context.check_hostname = self.ssl_check_hostname
        return context
