"""Checksums of migration files, which ignore comments and whitespace so that a comment can be corrected later."""

from __future__ import annotations

import hashlib
import re

# Quoted text (escape strings, strings, quoted identifiers, and dollar-quoted text such as function bodies), or a gap of
# comments and whitespace. Quoted text is matched first, so that it is never treated as a comment. A block comment that
# contains another one is not recognised and counts as statement text.
TOKEN = re.compile(
    r"""
    (?P<quoted>
        (?<!\w)[eE]'(?:[^'\\]|\\.|'')*'
        | '(?:[^']|'')*'
        | "(?:[^"]|"")*"
        | (?<![\w$])\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
    )
    | (?P<gap> (?: --[^\n]* | /\*(?:(?!/\*).)*?\*/ | \s )+ )
    """,
    re.VERBOSE | re.DOTALL,
)
DIGEST_BYTES = 16

# Before 0.1.0, checksums were SHA-256 hashes of whole files. This maps them to their current form, so that databases
# from that time are accepted.
PRE_RELEASE_CHECKSUMS: dict[str, str] = {
    "1a2aff9b8652358344c51a5821cbc7c0a01c63fac1c2fd571f5641a5d83ada39": "8b1207055458a5e84268fe6a8bce3428",  # 0001
    "706df9cc990adf28b8533fb9a1855d5da0271d7a68c41e54e3e58fddaabc17f1": "beaaf530c09ad2a49c23c20b8568b488",  # 0002
    "ecfca85d1a14ba9d9d5e111119d12d7c168b3fbc13a31bebac87cb1c5e843f62": "dcdd6b743f6cdbd32968b7f668930918",  # 0003
    "54c5e49cdc6259afd69ad9e4c2324db1d3e76ecadfa21be803bb6da97edae8bb": "b6d7169868087bd6136ac6cba68885b9",  # 0004
    "b56f99a820e5aebc1090202cec5e9ad731943077ec3be757180686c0d6e2080b": "f963625d8b1483dcab88c2a9c070d35b",  # 0005
    "0811bf24a3dee4b2fb235b638cbd69ecfc11b1a8e7eda29424b53fab0c576d11": "ba64287fa0dcef6790d90da804732b84",  # 0006
    "32bab7ef3c15ddebf91ce7d59de696129e47cc872bf3e68aaf51abb28a090138": "7478ad5e37a8a72edb9a7865496280b0",  # 0007
    "3f42426bfa914f40483b8a7a298d0db1731e5ca86b7f770e55892633412dfd29": "88b32f8d09845cb77dd8e97f0be37af1",  # 0008
    "571e109cf06113fccbd069d365579d8c5552ea5cf0323afef23915042a0bc658": "c3c14e5d20ae28460a0aa9d3852ccc16",  # 0009
    "8cf1dbce14065dd2dca4245a4273bcf647099075a6889b101812fdfb7bc894a5": "f7a558980360df9fd7c3564036827dbc",  # 0010
    "f19583f4502231a0987b1cd2aaf269b194bc9725946f3968095802e1037eddf4": "6cc3b21d890cc6f543808f4c80979315",  # 0011
    "d1f9f331751c10f9398a9fdb3e36e0e03e7ab4eff1bdb0ea16dad7117d0ee1b0": "80536dddd52d7abc36c6a2402e8104e8",  # 0012
    "0d72647a2c31cf374db87dc5ec2d57fad5eb3e2856562865534064f6e9832eb7": "b33f46f3975080ed1a95bd34b2a2f716",  # 0013
    "d814501100875e0123f0274f1901f67fac2ac9f7975920a3dbf42d3cd5ce80ad": "bc718f05cdfb5d5c8cd5d2be6e5308f0",  # 0014
    "ff1fdb57a44c6679846432214fae17d602417d38350a8bca3b790520a0a71863": "1cdf8733df0a8e6893901d8bdbac2a85",  # 0015
    "af89be0b0d3811ddf5faf2f37d5e4bf15e155506116d0076c3ac22074268f720": "d9a6ec0e9b0478301f188db3e110ecf8",  # 0016
    "2de8ab9b901a507c960fcce8ad4b5ec060dfdbdb515506be058b72baa51c1290": "3b937b03125a6e3dcd12a217de72d930",  # 0017
    "1ef9b1942569fb1a33e016bbfb070908d4e3c8073e216caacbb73a712df0e544": "753f78d0c4e81ee52aa075a8e529c4c8",  # 0018
    "b94ec5d98cfc034b53ee186794b487c621ffe6f034ec3cead275d5b8a09c2189": "b94524a4f2fb8b947e44358df4d020c1",  # 0019
    "8eaa0f7b97435ad1a17c2590562d975981f25450bb1c4d06be4c9a431e32a802": "e7a716274b47375c187103c459aaf6b4",  # 0020
    "848d2613c200311eb2186c8d26d73a7c8e45a16f753a51999a7b8203d581be29": "fe04e57622e62b80241102ecc19d0e20",  # 0021
}


def checksum_migration(sql: str) -> str:
    """Return the checksum of a migration's statements, 32 hexadecimal digits."""
    statements = TOKEN.sub(lambda token: token["quoted"] or " ", sql).strip()
    return hashlib.blake2b(statements.encode(), digest_size=DIGEST_BYTES).hexdigest()


def current_checksum(stored: str) -> str:
    """Return a stored checksum in the current format; those stored before 0.1.0 are translated."""
    return PRE_RELEASE_CHECKSUMS.get(stored, stored)
