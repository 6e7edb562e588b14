"""Knows where systems and tools keep themselves, and where their caches are."""

from __future__ import annotations

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt"),
    *("/nix", "/gnu", "/run/current-system", "/snap", "/home/linuxbrew/.linuxbrew"),
    *("/var/lib/dpkg", "/var/lib/ca-certificates", "/var/cache/fontconfig"),
)
"""Programs, libraries and settings of the system."""

HOMES = (
    # Python
    *(".pyenv", ".local/share/uv", ".local/share/pipx", ".local/pipx", ".local/lib", ".local/bin"),
    *(".local/share/virtualenvs", ".virtualenvs", ".local/share/hatch", ".local/share/pypoetry"),
    *(".poetry", ".rye", "miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba"),
    *(".conda/envs", ".pixi"),
    # JavaScript
    *(".nvm", ".fnm", ".local/share/fnm", ".volta", ".nodenv", ".bun", ".deno/bin", ".npm-global"),
    *(".local/share/pnpm", ".local/share/yarn", ".n"),
    # Rust and Go
    *(".rustup", ".cargo/bin", ".cargo/env", ".cargo/config.toml", ".cargo/config", "go/bin"),
    *(".goenv", "sdk", ".gvm"),
    # others, and managers of several
    *(".rbenv", ".rvm", ".gem/ruby", ".local/share/gem", ".sdkman", ".jenv", ".jdks", ".dotnet"),
    *(".ghcup", ".opam", ".juliaup", ".swiftly", ".elan", ".asdf", ".local/share/mise"),
    *(".local/share/rtx", ".proto", ".nix-profile", ".local/state/nix", ".linuxbrew"),
)
"""Below the home: tools, and nothing that they keep of their users."""

NAMED = (
    *("VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT", "POETRY_HOME", "PIPX_HOME", "NVM_DIR"),
    *("NVM_BIN", "VOLTA_HOME", "FNM_DIR", "PNPM_HOME", "BUN_INSTALL", "RUSTUP_HOME", "GOROOT"),
    *("GOBIN", "JAVA_HOME", "RBENV_ROOT", "ASDF_DIR", "ASDF_DATA_DIR", "MISE_DATA_DIR"),
    *("HOMEBREW_PREFIX", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PIP_CERT"),
)
"""Variables that lead to a tool or to certificates (`workspace.environment` passes them on)."""

IN_CACHE = (
    # (variable, name below the user's cache directory, whether it can be read and not written)
    ("PRE_COMMIT_HOME", "pre-commit", True),  # its store looks whether it may write
    ("DENO_DIR", "deno", True),
    ("UV_CACHE_DIR", "uv", False),
    ("PIP_CACHE_DIR", "pip", False),
    ("GOCACHE", "go-build", False),
    ("", "pypoetry", True),
    ("", "node", True),
    ("", "ms-playwright", True),
    ("", "Cypress", True),
    ("", "puppeteer", True),
    ("", "electron", True),
    ("", "bazelisk", True),
)

CACHES = (
    # (variable, what to add to it, name below the home, whether it can be read and not written)
    ("CARGO_HOME", "registry", ".cargo/registry", True),
    ("CARGO_HOME", "git", ".cargo/git", True),
    ("GOMODCACHE", "", "go/pkg/mod", True),
    ("", "", ".npm", False),
    ("GRADLE_USER_HOME", "", ".gradle", False),
)

FOREIGN_CACHES = (".m2/repository", ".yarn/berry", ".local/share/pnpm/store")
"""Below the home, and only there if they are there."""
