"""Credentials for buckets: keys in the environment, otherwise the identity of the pod or of the machine (AWS).

The identity is, in this order, a role for a web identity (IRSA: ``AWS_WEB_IDENTITY_TOKEN_FILE`` and ``AWS_ROLE_ARN``), an
agent of the node (EKS Pod Identity, ECS: ``AWS_CONTAINER_CREDENTIALS_FULL_URI``) or the instance's role. The platform sets
these variables. Credentials are fetched again before they expire.
"""

from __future__ import annotations

import os

import urllib3
from minio.credentials import ChainedProvider, Credentials, EnvAWSProvider, EnvMinioProvider, IamAwsProvider
from minio.credentials.providers import Provider

from mm1.store.deadline import Connections, Retries

WEB_IDENTITY = "AWS_WEB_IDENTITY_TOKEN_FILE"
IDENTITIES = (WEB_IDENTITY, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
"""Variables with which a platform gives a pod an identity."""
ENDPOINTS = {WEB_IDENTITY: "AWS_ENDPOINT_URL_STS", "": "AWS_EC2_METADATA_SERVICE_ENDPOINT"}
"""Identity (empty = the instance's) -> variable with another address of its service, as in the AWS SDKs."""
# An agent may restart; without an identity the instance's metadata are tried, which most machines do not have.
AGENT_RETRIES, METADATA_RETRIES = 8, 1
CONNECT_S, READ_S = 2, 10


class CredentialsError(Exception):
    """No credentials; the message has the remedy and no secrets."""

    def __init__(self, message: str, *, is_transient: bool) -> None:
        super().__init__(message)
        self.is_transient = is_transient
        """Whether a later attempt may succeed."""


class BucketCredentials(Provider):
    """Keys of the environment, or temporary keys of an identity."""

    def __init__(self) -> None:
        self.identity = next((name for name in IDENTITIES if os.environ.get(name)), "")
        retries = Retries(
            total=AGENT_RETRIES if self.identity else METADATA_RETRIES,
            backoff_factor=0.5,
            backoff_max=10,
            status_forcelist=[500, 502, 503, 504],
            allowed_methods=None,
        )
        pool = Connections(retries, CONNECT_S, READ_S)
        endpoint = os.environ.get(ENDPOINTS.get(self.identity, "")) or None
        identity = IamAwsProvider(custom_endpoint=endpoint, http_client=pool)
        self._chain = ChainedProvider([EnvAWSProvider(), EnvMinioProvider(), identity])
        self._had_credentials = False

    def retrieve(self) -> Credentials:
        """Return credentials that have not expired.

        Raises:
            CredentialsError: there are no keys, and the identity has none.
        """
        try:
            result = self._chain.retrieve()
        except ValueError:  # refused; the message of the client has the token in it
            raise self._error("was refused", is_transient=self._had_credentials) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            is_transient = bool(self.identity) or self._had_credentials
            raise self._error(f"failed ({type(error).__name__})", is_transient=is_transient) from None
        self._had_credentials = True
        return result

    def _error(self, what: str, *, is_transient: bool) -> CredentialsError:
        if self.identity:
            return CredentialsError(
                f"the identity of {self.identity} {what}; check the role of the pod's service account, and that the network "
                "policy lets the pod reach it (networkPolicy.identity.provider of the chart)",
                is_transient=is_transient,
            )
        return CredentialsError(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod's service account an identity",
            is_transient=is_transient,
        )
