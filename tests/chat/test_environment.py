from __future__ import annotations

import subprocess
import sys

import pytest

from nbllama.chat.errors import ChatError, TemplateRefused
from nbllama.chat.renderer import Renderer

SIZEABLE = "{% set x = ('a' * 50000).replace('a', 'a' * 20) %}"
SHARED = "{% set x = 'a' * 10000 %}{% set l = [(x,)] * 10 %}{% set l = l * 2000 %}"
BOMBS = {
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling with ~": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "repetition": "{{ 'a' * 1000000000 }}",
    "center": "{{ 'a'.center(1000000000) }}",
    "center filter": "{{ 'a' | center(1000000000) }}",
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "zfill": "{{ '1'.zfill(width) }}{{ '1'.zfill(1000000000) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format nested": "{{ '{:>{w}}'.format(1, w=1000000000) }}",
    "format wide": "{{ ('{0}' * 1000).format('a' * 1000000) }}",
    "indent": "{{ 'a\\nb' | indent(1000000000) }}",
    "json indent": "{{ [1] | tojson(indent=1000000000) }}",
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
    "join": "{{ ['b' * 1000000] * 1000 | join }}",
    "loops": "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "filtered loops": "{% for i in range(100000) %}{% for j in range(100000) if false %}{% endfor %}{% endfor %}",
    "hidden loops": "{% set l = range(100000) | list %}{% for i in l %}{{ l.index(99999) }}{% endfor %}",
    "wide range": "{{ range(10000000000) | list }}",
    "power": "{{ 9 ** 999999999 }}",
    "recursion": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
    "endless recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "output": "{% set x = 'a' * 100000 %}{% for i in range(100000) %}{{ x }}{% endfor %}",
    "constants": "{% for i in range(100000) %}" + "z" * 1000 + "{% endfor %}",
    "laughs": "{% set a = ['aaaaaaaaaaa'] %}" + "{% set a = [a, a, a, a, a, a, a, a, a, a] %}" * 30 + "{{ a }}",
    "laughs compared": "{% set a = ['a'] %}{% set b = ['a'] %}"
    + "{% set a = [a, a, a, a, a, a, a, a, a, a] %}{% set b = [b, b, b, b, b, b, b, b, b, b] %}" * 9
    + "{{ a == b }}",
    "extend": "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.extend(l) %}{% endfor %}",
    "bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "slices": SIZEABLE + "".join(f"{{% set a{i} = x[{i}:] %}}" for i in range(1, 2000)),
    "partitions": SIZEABLE + "".join(f"{{% set a{i} = (x ~ 'b{i}c').partition('b') %}}" for i in range(1, 2000)),
    "searches": "{% set l = range(100000) | list %}" + "{% if -1 in l %}{% endif %}" * 3000,
    "comparisons": "{% set a = range(100000) | list %}{% set b = range(100000) | list %}"
    + "{% if a == b %}{% endif %}" * 3000,
    "in filters": "{% set l = range(100000) | list %}{{ l | select('in', l) | list | length }}",
    "lazy chain": "{{ range(100000) " + "| map('abs')" * 200 + " | list | length }}",
    "lazy attributes": "{{ range(100000) " + "| map(attribute='a')" * 500 + " | list | length }}",
    "joined by much": "{{ range(1000) | list | join('b' * 400000) }}",
    "joined by much by a method": "{{ ('b' * 400000).join('c' * 1000) }}",
    "generator joined": SHARED + "{{ l | map(attribute='0') | join }}",
    "generator joined by a method": SHARED + "{{ ''.join(l | map(attribute='0')) }}",
    "generator summed": "{% set b = [1] * 10000 %}{% set l = [(b,)] * 10000 %}"
    "{{ l | map(attribute='0') | sum(start=[]) | length }}",
    "many attributes": "{% set l = range(100000) | list %}{{ l | sort(attribute=('a,' * 20000)) | length }}",
    "cheap sorts": "{% set l = range(100000) | list %}" + "{{ l | min(attribute='a.b.c.d.e') }}" * 500,
    "rounding": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "division": "{% set a = ('f' * 400000) | int(base=16) %}{% set b = ('f' * 200000) | int(base=16) %}"
    + "{{ a // b }}" * 500,
    "huge literal": "{{ 0x" + "f" * 60000 + " // 0x" + "e" * 30000 + " }}",
    "dicts": "{% set a = 'a' %}" + "{% set a = dict(x=a, y=a, z=a) %}" * 40 + "{{ a == a.x }}{{ '{!r}'.format(a) }}",
    "namespaces": "{% set a = namespace(x=1) %}"
    + "{% set b = namespace() %}{% set b.x = a %}{% set b.y = a %}{% set a = b %}" * 60
    + "{{ a }}",
    "namespaces centred": "{% set a = namespace(x=1) %}"
    + "{% set b = namespace() %}{% set b.x = a %}{% set b.y = a %}{% set a = b %}" * 60
    + "{{ a | center(3) }}",
    "namespaces raised": "{% set a = namespace(x=1) %}"
    + "{% set b = namespace() %}{% set b.x = a %}{% set b.y = a %}{% set a = b %}" * 60
    + "{{ raise_exception(a) }}",
    "many fields": "{{ ('a' * 400000).replace('a', '{0}').format('') }}",
    "nested JSON": "{% set t = '[' ~ ('[[]],' * 80000) ~ '1]' %}"
    + "".join(f"{{% set a{i} = t | from_json %}}" for i in range(200)),
    "groups": "{% set l = range(100000) | list %}"
    + "".join(f"{{% set a{i} = l | groupby('a') %}}" for i in range(1000)),
    "views": "{% set d = dict(a=1) %}{% for i in range(20000) %}{% set _ = d.update({i: 1}) %}{% endfor %}"
    + "".join(f"{{% set a{i} = d.keys() - dict(b=1).keys() %}}" for i in range(1000)),
    "set block": "{% set x = 'a' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40,
    "filter block": "{% filter indent(9999) %}" + "a\n" * 20000 + "{% endfilter %}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1]) }}{{ loop([1]) }}{% endfor %}",
    "block in itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "caller": "{% macro m(n) %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m(1) %}" * 15
    + "a" * 3000
    + "{% endcall %}" * 15,
    "large message": SIZEABLE + "{{ raise_exception([x] * 100) }}",
    "nested blocks": "{% for i in [1] %}" * 40 + "{% endfor %}" * 40,
    "nested conditions": "{% if true %}" * 150 + "{% endif %}" * 150,
    "dense": "{{a}}" * 200000,
    "long sum": "{{ 1" + "+1" * 40000 + " }}",
    "long path": "{{ a" + ".a" * 40000 + " }}",
    "parentheses of lists": "{{ " + "[" * 20000 + "]" * 20000 + " }}",
    "inclusion": "{% include '/etc/passwd' %}",
    "inheritance": "{% extends '/etc/passwd' %}",
    "generator's frame": "{{ (messages | map(attribute='role')).gi_frame.f_globals + 1 }}",
    "format's internals": "{{ '{0.__class__.__mro__}'.format('') + 1 }}",
    "attr's internals": "{{ ('' | attr('__class__')).x.y + 1 }}",
    "mapped internals": "{{ [''] | map(attribute='__class__.__mro__') | first + 1 }}",
    "globals": "{{ raise_exception.__globals__['json'] + 1 }}",
    "internals": "{{ ''.__class__.__mro__[1].__subclasses__()[0] }}",
}

RUN = """
import re, resource, sys
from pathlib import Path
from nbllama.chat.errors import ChatError
from nbllama.chat.renderer import Renderer
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    Renderer(sys.stdin.read(), bos="", eos="").render([{"role": "user", "content": "hi"}])
    print("rendered")
except ChatError as error:
    after = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss: a child inherits its parent's, and a test run grows large.
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    print("refused", after.ru_utime - before.ru_utime, peak // 1024)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_as_an_error_within_bounds(name: str) -> None:
    """A second of processor time (doubled for slow machines) and 200 MB, measured in a process of its own."""
    done = subprocess.run([sys.executable, "-c", RUN], input=BOMBS[name], capture_output=True, text=True, timeout=60)
    verdict, *numbers = done.stdout.split()
    assert verdict == "refused", done.stdout + done.stderr
    assert float(numbers[0]) < 2 and int(numbers[1]) < 200


def render(source: str, content: str = "hi") -> str:
    return Renderer(source, bos="<s>", eos="</s>").render([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ messages[0].absent.deep }}|{{ none }}|{{ tools is defined }}", "||False"),
        ("{{ {'b': 'é<', 'a': 1} | tojson }}", '{"b": "é<", "a": 1}'),
        ("{{ {'b': 'é'} | tojson(ensure_ascii=true, indent=1) }}", '{\n "b": "\\u00e9"\n}'),
        ("{{ messages | map(attribute='role') | tojson }}", '["user"]'),
        ("{{ '<b>' | safe + '<' }}{{ bos_token }}", "<b><<s>"),
        ("{% set l = [] %}{% set _ = l.append(1) %}{{ ('{\"a\": 2}' | from_json).a }}{{ l }}", "2[1]"),
        (
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{{ loop.last }}{% endfor %}",
            "1False3True",
        ),
        ("{% generation %}a{% endgeneration %}{{ strftime_now('%Y') | length }}", "a4"),
        ("{{ '%s-%d' % ('a', 2) }}{{ '{}'.format('b') }}{{ 'a' ~ 1 ~ none }}{{ 'x'.center(3) }}", "a-2ba1 x "),
        ("{%- for m in messages %}\n  {%- if true %}\n    x\n  {%- endif %}\n{% endfor %}", "    x"),
    ],
)
def test_what_real_templates_need(source: str, text: str) -> None:
    assert render(source) == text


def test_a_refusal_keeps_the_words_of_the_template() -> None:
    with pytest.raises(TemplateRefused, match=r"^roles must alternate$"):
        render("{{ raise_exception('roles must alternate') }}")


def test_a_failure_is_a_chat_error_that_says_what_failed() -> None:
    with pytest.raises(ChatError, match="TypeError"):
        render("{{ messages + 1 }}")
    with pytest.raises(ChatError, match="compiled"):
        render("{% if %}")


def test_a_long_text_has_room_in_proportion() -> None:
    content = "word " * 400_000
    source = (
        "{% set n = namespace(t='') %}{% for m in messages %}{% set n.t = n.t + m.content + '!' %}{% endfor %}{{ n.t }}"
    )
    renderer = Renderer(source, bos="", eos="")
    assert renderer.render([{"role": "user", "content": content}], input_chars=len(content)) == content + "!"
