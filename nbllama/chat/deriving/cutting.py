"""Where to cut what a template writes around sentinels."""

from __future__ import annotations

import re

TAG = re.compile(r"<[^<>\s][^<>]*>|\[[^\[\]\s][^\[\]\n]*\]")


def tags_of(text: str) -> list[str]:
    return TAG.findall(text)


def common_prefix(a: str, b: str) -> int:
    """Its length."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def common_suffix(a: str, b: str) -> int:
    """Its length."""
    return common_prefix(a[::-1], b[::-1])


def outside_tag(text: str, cut: int, *, after: bool) -> int:
    """`cut`, moved out of a tag of `text` that it would divide: behind it (`after`) or before it."""
    for tag in TAG.finditer(text):
        if tag.start() < cut < tag.end():
            return tag.end() if after else tag.start()
    return cut


def split_gap(gap: str, lead: str) -> tuple[str, str]:
    """What stands between two items → (what closes the first, what opens the second); `lead` is before the first."""
    shared = common_suffix(gap, lead)
    cut = len(gap) - shared
    snapped = outside_tag(gap, cut, after=True)
    return (gap[:cut], gap[cut:]) if snapped >= len(gap) and tags_of(gap) else (gap[:snapped], gap[snapped:])


def without_suffix(text: str, suffix: str) -> str:
    return text[: len(text) - len(suffix)] if suffix and text.endswith(suffix) else text


def without_prefix(text: str, prefix: str) -> str:
    """`text` without a prefix, whatever the space around both."""
    core = prefix.strip()
    return text.lstrip()[len(core) :] if core and text.lstrip().startswith(core) else text


def unify(a: str, b: str) -> str:
    """One marker for two texts: what differs becomes `{any}`, whole words of it."""
    if a == b:
        return a
    start = common_prefix(a, b)
    end = min(common_suffix(a, b), len(a) - start, len(b) - start)
    while 0 < start < len(a) and a[start - 1].isalnum() and a[start].isalnum():
        start -= 1
    while end > 0 and len(a) - end - 1 >= 0 and a[len(a) - end].isalnum() and a[len(a) - end - 1].isalnum():
        end -= 1
    return a[:start] + "{any}" + a[len(a) - end :]


def kernel(tag: str) -> str:
    """What a pair of tags shares: `think` for `<think>` and `</think>`, `x` for `<|START_X|>` and `<|END_X|>`."""
    return re.sub(r"start|begin|end|[^a-z0-9:]", "", tag.lower())


def are_pair(opener: str, closer: str) -> bool:
    return opener != closer and kernel(opener) == kernel(closer) != ""
