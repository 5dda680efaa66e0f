"""Whom a workspace is asked as, where a profile is named: what that section of the file says, and nothing else.

databricks-sdk lets a variable of the environment win over the file, and goes on to the next way to sign in, down to the
Azure command line, where one does not apply. So the section is handed over whole, with the one way that it names.
"""

from __future__ import annotations

import configparser

from forecastcore.errors import DatabricksRunError
from forecastcore.tracking.connect import databricks_file

__all__ = ["MANAGED_IDENTITY", "named_identity"]

#: databricks-sdk for Go calls it so; the one for Python does not know it
MANAGED_IDENTITY = "azure-msi"
#: what a section of each way to sign in holds
_WAYS = {
    "oauth-m2m": {"client_id", "client_secret"},
    "azure-client-secret": {"azure_client_id", "azure_client_secret", "azure_tenant_id"},
    MANAGED_IDENTITY: {"azure_use_msi"},
    "pat": {"token"},
}
_IDENTITIES = ("oauth-m2m", "azure-client-secret", MANAGED_IDENTITY)
_HINT = (
    "give it client_id and client_secret; azure_client_id, azure_client_secret and azure_tenant_id; "
    "or azure_use_msi = true and azure_client_id"
)


def named_identity(profile: str, *, only_identities: bool) -> dict[str, str]:
    """The section of a Databricks configuration, with `auth_type` set to the one way to sign in that it names.

    Args:
        profile: name of the section.
        only_identities: as under `profile: prod`: a service principal or a managed identity, no token and no login.

    Raises:
        DatabricksRunError: there is no such section, it names no host, or none or several ways to sign in.
    """
    path = databricks_file()
    file = configparser.ConfigParser(interpolation=None)
    try:
        file.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise _fault(f"{path} cannot be read: {type(error).__name__}", "mend the file") from None
    if profile not in file:
        raise _fault(f"{path} has no profile {profile!r}", f"it has {', '.join(file.sections()) or 'none'}")
    section = {key: value for key, value in file[profile].items() if value}
    if "host" not in section:
        raise _fault(f"the profile {profile!r} of {path} names no host", "write host = https://… in it")
    ways = [way for way, keys in _WAYS.items() if keys <= section.keys()]
    if "auth_type" in section:
        ways = [section["auth_type"]]
    if len(ways) != 1:
        words = f"names {' and '.join(ways)}" if ways else "names no credential of its own"
        raise _fault(f"the profile {profile!r} of {path} {words}", _HINT)
    if only_identities and ways[0] not in _IDENTITIES:
        raise _fault(f"the profile {profile!r} of {path} signs in by {ways[0]}, not as an identity", _HINT)
    return {**section, "auth_type": ways[0]}


def _fault(words: str, hint: str) -> DatabricksRunError:
    return DatabricksRunError(f"Databricks: no way to sign in: {words}", fault="unauthenticated", hint=hint)
