"""Says what keys look like, as data: prefixes that vendors chose so that scanners know them.

Each rule holds a literal, by which almost every file is passed without a regular expression, and
the pattern of the whole key. Prefixes as their vendors document them; the documents are named
where one page tells.
"""

from __future__ import annotations

import re
from functools import cached_property

from runner.frozen import frozen


@frozen
class Rule:
    """One kind of key."""

    kind: str
    """What it is, for people: `a GitHub token`."""
    literals: tuple[bytes, ...]
    """One of these is in every such key."""
    text: bytes
    """Pattern of the key, which begins with the literal; its last group, or all of it, is the key
    itself."""
    back: int = 0
    """How many bytes before the literal the pattern may begin instead."""
    folded: bool = False
    """Whether the letters' case does not matter; the literals are in lower case then."""

    @property
    def one_word(self) -> bool:
        """Whether such a key, and its literal, is one long word without blanks."""
        return not self.folded and b" " not in self.literals[0]


class Pattern:
    """A rule whose pattern is compiled when a file first needs it."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    @cached_property
    def compiled(self) -> re.Pattern[bytes]:
        """The pattern, ready to search."""
        return re.compile(self.rule.text)


_END = rb"(?![A-Za-z0-9_])"
_BEGIN = rb"(?<![A-Za-z0-9_])"


def _rule(kind: str, literals: str, text: bytes, back: int = 0) -> Rule:
    return Rule(kind, tuple(word.encode() for word in literals.split()), _BEGIN + text, back)


RULES: tuple[Rule, ...] = (
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
    _rule(
        "an AWS access key", "AKIA ASIA ABIA ACCA", rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}" + _END
    ),
    # https://github.blog/engineering/behind-githubs-new-authentication-token-formats/
    _rule("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", rb"gh[pousr]_[A-Za-z0-9]{36,251}" + _END),
    _rule("a GitHub token", "github_pat_", rb"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}" + _END),
    # https://docs.gitlab.com/security/tokens/#token-prefixes
    _rule(
        "a GitLab token",
        "glpat- gldt- glrt- glptt- glcbt- glft- glsoat- glagent- gloas- glimt-",
        rb"gl(?:pat|dt|rt|ptt|cbt|ft|soat|agent|oas|imt)-[A-Za-z0-9_.=-]{20,300}" + _END,
    ),
    _rule(
        "a Slack token", "xox", rb"xox[abeoprs]-(?:\d-)?[0-9A-Za-z]{8,}-[0-9A-Za-z-]{8,250}" + _END
    ),
    _rule("a Slack token", "xapp-", rb"xapp-\d-[A-Z0-9]{8,}-\d+-[a-f0-9]{32,128}" + _END),
    _rule(
        "a Slack webhook",
        "hooks.slack.com",
        rb"hooks\.slack\.com/(?:services|workflows)/[A-Z0-9]{8,12}/[A-Z0-9]{8,12}/[A-Za-z0-9]{20,48}"
        + _END,
    ),
    _rule(
        "a Discord webhook",
        "/api/webhooks/",
        rb"discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,70}",
        back=16,
    ),
    # https://docs.stripe.com/keys
    _rule("a Stripe key", "sk_live_ rk_live_", rb"[sr]k_live_[0-9A-Za-z]{16,250}" + _END),
    _rule("a Stripe webhook secret", "whsec_", rb"whsec_[A-Za-z0-9+/]{32,}=*"),
    # https://cloud.google.com/docs/authentication/api-keys
    _rule("a Google API key", "AIza", rb"AIza[\w-]{35}(?![\w-])"),
    _rule("a Google OAuth secret", "GOCSPX-", rb"GOCSPX-[\w-]{28}(?![\w-])"),
    _rule("a Google OAuth token", "ya29.", rb"ya29\.[\w-]{60,}"),
    _rule("an Anthropic key", "sk-ant-", rb"sk-ant-[a-z0-9]{2,12}-[\w-]{40,250}"),
    _rule("an OpenAI key", "T3BlbkFJ", rb"sk-[\w-]{16,150}T3BlbkFJ[\w-]{16,150}", back=154),
    _rule(
        "an OpenAI key",
        "sk-proj- sk-svcacct- sk-admin-",
        rb"sk-(?:proj|svcacct|admin)-[\w-]{40,250}",
    ),
    _rule("an OpenRouter key", "sk-or-v1-", rb"sk-or-v1-[0-9a-f]{64}" + _END),
    _rule("a Groq key", "gsk_", rb"gsk_[A-Za-z0-9]{52}" + _END),
    _rule("an xAI key", "xai-", rb"xai-[A-Za-z0-9]{80}" + _END),
    _rule("a Hugging Face token", "hf_", rb"hf_[A-Za-z]{34}" + _END),
    # https://docs.npmjs.com/about-access-tokens
    _rule("an npm token", "npm_", rb"npm_[A-Za-z0-9]{36}" + _END),
    # https://pypi.org/help/#apitoken
    _rule("a PyPI token", "pypi-AgE", rb"pypi-AgE[\w-]{50,}"),
    _rule("a RubyGems key", "rubygems_", rb"rubygems_[a-f0-9]{48}" + _END),
    _rule("a crates.io token", "cio", rb"cio[A-Za-z0-9]{32}" + _END),
    _rule("a Docker Hub token", "dckr_", rb"dckr_(?:pat|oat)_[\w-]{27,}"),
    _rule("a SendGrid key", "SG.", rb"SG\.[\w-]{22}\.[\w-]{43}(?![\w-])"),
    _rule("a Mailgun key", "key-", rb"key-[0-9a-f]{32}" + _END),
    _rule("a Twilio key", "SK", rb"SK[0-9a-f]{32}" + _END),
    _rule("a DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", rb"do[opr]_v1_[a-f0-9]{64}" + _END),
    _rule(
        "a Shopify token",
        "shpat_ shpca_ shppa_ shpss_",
        rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}" + _END,
    ),
    _rule("a Square token", "sq0atp- sq0csp-", rb"sq0(?:atp-[\w-]{22}|csp-[\w-]{43})(?![\w-])"),
    _rule("a Databricks token", "dapi", rb"dapi[a-f0-9]{32}(?:-\d)?" + _END),
    _rule("a Vault token", "hvs. hvb.", rb"hv[sb]\.[\w-]{90,300}"),
    _rule("a Terraform token", ".atlasv1.", rb"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,70}", back=14),
    _rule("a Linear key", "lin_api_", rb"lin_api_[A-Za-z0-9]{40}" + _END),
    _rule("a Notion token", "ntn_", rb"ntn_[A-Za-z0-9]{40,50}" + _END),
    _rule("an Atlassian token", "ATATT3", rb"ATATT3[\w=-]{150,250}"),
    _rule("a Grafana token", "glsa_", rb"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}" + _END),
    _rule("a New Relic key", "NRAK-", rb"NRAK-[A-Z0-9]{27}" + _END),
    _rule(
        "a Doppler token",
        "dp.pt. dp.st. dp.ct.",
        rb"dp\.[psc]t\.(?:[a-z0-9_-]+\.)?[A-Za-z0-9]{40,44}" + _END,
    ),
    _rule("a PlanetScale token", "pscale_", rb"pscale_(?:tkn|pw|oauth)_[\w=.-]{32,64}"),
    _rule("a Pulumi token", "pul-", rb"pul-[a-f0-9]{40}" + _END),
    _rule("a Telegram token", ":AA", rb"\d{8,10}:AA[\w-]{33}(?![\w-])", back=10),
    _rule("an Azure storage key", "AccountKey=", rb"AccountKey=([A-Za-z0-9+/]{86}==)"),
    _rule("an age key", "AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1[0-9A-Z]{58}" + _END),
    # RFC 7468 section 10 and 11; OpenPGP and OpenSSH write theirs alike. A body must follow: the
    # first line alone is what programs look for.
    Rule(
        "a private key",
        (b"-----BEGIN ",),
        rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        rb"(?:\\[rn]|[\s\"'+,>|#*\\]){1,40}"
        rb"(?:[A-Za-z-]{3,20}: [^\n]{1,200}\s{1,20}){0,4}"
        rb"([A-Za-z0-9+/=]{40,})",
    ),
    Rule(
        "a PuTTY key", (b"PuTTY-User-Key-File-",), rb"PuTTY-User-Key-File-\d: [\w-]+\r?\nEncryption"
    ),
    Rule(
        "a password in a URL",
        (b"://",),
        rb"://[\w.%~-]{1,64}:([^\s/@:\"'`<>{}$()\[\]*]{8,128})@[\w.-]{3,}",
    ),
    Rule(
        "a registry's token",
        (b":_authToken", b":_password"),
        rb":_(?:authToken|password)[ \t]?=[ \t]?\"?([A-Za-z0-9+/=_.-]{16,250})",
    ),
    Rule(
        "what looks like a key",
        (b"key", b"token", b"secret", b"passw", b"passphrase", b"credential"),
        rb"(?i:(?:secret|token|passwd|password|passphrase|credential"
        rb"|(?:(?<=api)|(?<=api[_-])|(?<=access[_-])|(?<=private[_-])|(?<=auth[_-])|(?<=account[_-])"
        rb"|(?<=encryption[_-])|(?<=signing[_-])|(?<=secret[_-]))key)s?)"
        rb"([\w-]{0,24})[\"']?\]?[ \t]{0,8}(?:=>|:=|[:=])[ \t]{0,8}(?:[bru]?[\"'`])?"
        rb"([A-Za-z0-9+/_=.~!@#%^&*-]{16,200})",
        folded=True,
    ),
)
"""The last rules stand for whatever has no prefix; `runner.secretscan` asks more of what they
find."""

RANDOM = frozenset({"a password in a URL", "a registry's token", "what looks like a key"})
"""Kinds that count only where the value looks as if it came from a generator."""

ALLOWED = re.compile(
    rb"gitleaks:allow|pragma:\s?allowlist[ -]secret|trufflehog:ignore|ggignore"
    rb"|runner:\s?allow-secret|secretlint-disable-line"
)
"""Comments by which a line says that it is no secret, as other scanners have them:
https://github.com/gitleaks/gitleaks#gitleaksallow,
https://github.com/Yelp/detect-secrets#inline-allowlisting,
https://docs.trufflesecurity.com/ignore-secrets"""
ALLOWED_NEXT = re.compile(rb"pragma:\s?allowlist nextline secret|secretlint-disable-next-line")
"""The same for the line after."""
