"""Decides by its name whether a file holds keys. Pure; letters' case does not matter.

Such files are not read by agents' tools, are hidden from agents' shells, and are not committed
anew.
"""

from __future__ import annotations

import fnmatch
import re
from functools import cache

NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx"),
    *("*.keystore", "*.jks", "*.ppk", "*.gpg", "*.age", "*.keytab", "*.ovpn"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "id_xmss*", "*_rsa", "*_ed25519"),
    *(".netrc", "_netrc", ".git-credentials", ".npmrc", ".pypirc", ".pgpass"),
    *(".my.cnf", ".htpasswd", ".vault-token", ".terraformrc", "terraform.tfstate*", "*.tfvars"),
    *(".s3cfg", ".boto", "credentials", "credentials.json", "credentials.toml"),
    *("service-account*.json", "service_account*.json", "client_secret*.json", "secrets.json"),
    *("secrets.yml", "secrets.yaml", "secrets.toml", ".secrets", "kubeconfig", "master.key"),
    *(".dockercfg", ".bash_history", ".zsh_history", ".python_history", ".node_repl_history"),
)
"""Globs of names of files that hold keys, or usually do."""
OPEN = (
    *("*.example", "*.sample", "*.template", "*.tmpl", "*.dist", "*.defaults", "*.schema", "*.tpl"),
    *("example.env", "sample.env", "template.env", "*.example.*", "*.sample.*"),
    *("*.template.*", "*.age.nix"),
)
"""Globs of names among them that hold none: they show what the others look like."""
FOLDERS = (
    ".git",
    ".aws",
    ".kube",
    ".ssh",
    ".gnupg",
    ".docker",
    ".azure",
    ".gcloud",
    ".password-store",
)
"""Directories that do not exist for agents, at any depth."""
AT_HOME = (
    *(".ssh/*", ".aws/*", ".gnupg/*", ".kube/config", ".docker/config.json", ".netrc", ".npmrc"),
    *(".git-credentials", ".pypirc", ".pgpass", ".vault-token", ".config/gh/hosts.yml"),
    *(".config/git/credentials", ".config/gcloud/*", ".azure/*", ".cargo/credentials*"),
    *(".gem/credentials", ".terraform.d/credentials*", ".claude/.credentials.json"),
    *(".codex/auth.json", ".bash_history", ".zsh_history", ".python_history"),
)
"""Globs, from the user's home, of files that hold keys: links to them are closed, too."""

_UNSHIPPED = (
    *(".env", ".env.*", "*.p12", "*.pfx", "*.kdbx", "*.keystore", "*.jks", "*.ppk", "*.keytab"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_xmss", ".netrc", "_netrc"),
    *(".git-credentials", ".pypirc", ".pgpass", ".vault-token", "terraform.tfstate*"),
    *("kubeconfig", "master.key", ".dockercfg"),
)
"""Those that are never meant to be committed; of the others the content tells."""


def is_secret(path: str) -> bool:
    """Tell whether an agent is kept from a path, relative to the tree, with slashes."""
    *folders, name = path.casefold().split("/")
    if not {*folders, name}.isdisjoint(FOLDERS):
        return True
    return _matches(name, NAMES) and not _matches(name, OPEN)


def is_unshippable(path: str) -> bool:
    """Tell whether a new file of that name must not be committed, whatever is in it."""
    *folders, name = path.casefold().split("/")
    if not {*folders}.isdisjoint({".aws", ".kube", ".ssh", ".gnupg"}) and name in (
        *("credentials", "config", "secring.gpg"),
    ):
        return True
    return _matches(name, _UNSHIPPED) and not _matches(name, OPEN)


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return _union(globs).match(name) is not None


@cache
def _union(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern for all globs: a tree has tens of thousands of names."""
    return re.compile("|".join(map(fnmatch.translate, globs)))
