"""Changes one thing of a JSON file at a time, and has a script look at each: all but the file as it is must be
refused, in a sentence and with exit 1.

    changed.py SCRIPT FILE AT_MOST [ARGUMENT ...]

FILE stands in the arguments as @. The number of changes is AT_MOST at most, spread over all. Prints how many were
made, or what was not refused, and exits 1.
"""

import contextlib
import copy
import importlib.util
import io
import json
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def others(value):
    """Values that are not this one."""
    yield from (None, True, 0, -1, 10**30, 3.9, "", "1_000", [], {}, [[]], "\ud800")
    if isinstance(value, str):
        yield from (value + "1", value[:-1], " " + value, value + "\n", [value])
        yield from (int(value), "0" + value, "+" + value) if value.isdigit() else ()
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, float(value), str(value))
    elif isinstance(value, dict):
        yield {**value, "evil": 1}
        yield from ({k: v for k, v in value.items() if k != gone} for gone in value)
    elif isinstance(value, list):
        yield [*value, *value[-1:], 1]
        yield value[1:] if value else [1]


def is_same(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def changed(whole):
    for path in places(whole):
        at = whole
        for key in path:
            at = at[key]
        for other in others(at):
            # A journal without its newest records is one, too.
            if is_same(at, other) or (path == ("records",) and isinstance(other, list) and not other):
                continue
            new = copy.deepcopy(whole)
            if not path:
                new = other
            else:
                into = new
                for key in path[:-1]:
                    into = into[key]
                into[path[-1]] = other
            what = f"{path} = {other!r:.60}"
            yield what if isinstance(new, dict) else f"no JSON: {what}", json.dumps(new)


def main():
    script, file, at_most, *arguments = sys.argv[1:]
    sys.path.insert(0, str(pathlib.Path(script).parent))
    spec = importlib.util.spec_from_file_location("script", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    original = pathlib.Path(file).read_text("utf-8")
    every = [("the file as it is", original), *changed(json.loads(original))]
    texts = [("no JSON", text) for text in ("", "{", "[]", "{}", "nul", "[" * 100_000, original + "x")]
    step = max(1, len(every) // int(at_most))
    wrong, made = [], 0
    with tempfile.TemporaryDirectory() as folder:
        place = str(pathlib.Path(folder, "changed.json"))
        for what, text in every[::step] + texts:
            pathlib.Path(place).write_text(text, "utf-8")
            sys.argv = [script, *(place if argument == "@" else argument for argument in arguments)]
            said = io.TextIOWrapper(io.BytesIO(), "utf-8")
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                try:
                    code = module.main()
                except BaseException as error:
                    code = f"raised {error!r}"
                said.flush()
            # What is no object may be taken for a database.
            wanted = (0,) if text == original else (1, 2) if what.startswith("no JSON") else (1,)
            if code not in wanted:
                wrong.append(f"{what}: {code}: {said.buffer.getvalue().decode()[:300]}")
            made += 1
    print("\n".join(wrong[:20]) or f"{made} of {len(every)} changes were refused")
    sys.exit(1 if wrong else 0)


main()
