"""Programs for the seen forms of the table-top suite."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from sim.tasks.tabletop.forms import Command
from sim.tasks.tabletop.task import Request

Asked = list[tuple[str, str, str]]
Said = tuple[str, str, Asked]
Write = Callable[[str], "tuple[str, Asked]"]
"""From a sentence to its program, and what that asks other programs."""

_ORDINALS = {"first": 0, "second": 1, "third": 2, "fourth": 3}
_COUNTS = {"one": 1, "two": 2, "three": 3}
_VERB = "(?:put|place|move|stack|pile)"


def tabletop_programs(rng: np.random.Generator, request: Request) -> list[Said]:
    """What is said for each command of a request of a seen form, and its programs."""
    said = []
    for number, command in enumerate(request.commands):
        sentence = command.sentences[rng.integers(len(command.sentences))]
        first = request.commands[0] if number else None
        code, asked = _then(request.form, command, first) if first else _WRITERS[request.form](sentence)
        said.append((sentence[0].upper() + sentence[1:], code, asked))
    return said


def _match(pattern: str, sentence: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, sentence)
    assert found is not None, (pattern, sentence)
    return tuple(group or "" for group in found.groups())


def _beside(sentence: str) -> tuple[str, Asked]:
    a, cm, where, b = _match(
        rf"{_VERB} the (.+?) (\d+) cm (to the left of|to the right of|behind|in front of) the (.+)", sentence
    )
    query = f"{cm} cm {where} the {b}"
    metres = int(cm) / 100
    offset = {
        "to the left of": f"[0.0, {metres:.2f}]",
        "to the right of": f"[0.0, -{metres:.2f}]",
        "behind": f"[{metres:.2f}, 0.0]",
        "in front of": f"[-{metres:.2f}, 0.0]",
    }[where]
    asked = [("parse_position", query, f"ret_val = get_obj_pos({b!r}) + {offset}")]
    return f"put_first_on_second({a!r}, parse_position({query!r}))", asked


_PLACES = r"((?:top|bottom) (?:left|right) corner|(?:top|bottom|left|right) side|middle)"


def _place(name: str) -> tuple[str, Asked]:
    """A named place, asked for."""
    query = f"the {name}"
    function = "get_corner_pos" if "corner" in name else "get_side_pos"
    return f"parse_position({query!r})", [("parse_position", query, f"ret_val = {function}({name!r})")]


def _to_place(sentence: str) -> tuple[str, Asked]:
    a, name = _match(rf"{_VERB} the (.+?) (?:in|on|to) the {_PLACES}", sentence)
    place, asked = _place(name)
    return f"put_first_on_second({a!r}, {place})", asked


def _onto(sentence: str) -> tuple[str, Asked]:
    a, b = _match(rf"{_VERB} the (.+?) (?:in|on) the (.+)", sentence)
    return f"put_first_on_second({a!r}, {b!r})", []


def _nth(sentence: str) -> tuple[str, Asked]:
    nth, kind, side, b = _match(rf"{_VERB} the (\w+) (\w+) from the (left|right) in the (.+)", sentence)
    query = f"the {nth} {kind} from the {side}"
    index = _ORDINALS[nth] if side == "left" else -1 - _ORDINALS[nth]
    code = f"names = find_objects({kind + 's'!r})\norder = get_order_from_left(names)\nret_val = names[order[{index}]]"
    return f"put_first_on_second(parse_obj_name({query!r}), {b!r})", [("parse_obj_name", query, code)]


def _several(sentence: str) -> tuple[str, Asked]:
    count, kinds, b = _match(rf"{_VERB} (\w+) (?:of )?the (\w+?)s in the (.+)", sentence)
    part = "" if count == "all" else f"[:{_COUNTS[count]}]"
    names, asked = _every(kinds)
    return f"for obj_name in {names}{part}:\n    put_first_on_second(obj_name, {b!r})", asked


def _every(kind: str, but: str = "") -> tuple[str, Asked]:
    query = f"the {kind}s" + (f" except the {but}" if but else "")
    found = f"find_objects({kind + 's'!r})"
    code = f"ret_val = [name for name in {found} if name != {but!r}]" if but else f"ret_val = {found}"
    return f"parse_obj_name({query!r})", [("parse_obj_name", query, code)]


def _more(sentence: str) -> tuple[str, Asked]:
    one, other, a, b, name = _match(
        rf"if there are more (\w+) than (\w+) put the (.+?) in the (.+?), (?:otherwise|else) put it in the {_PLACES}",
        sentence,
    )
    query = f"are there more {one} than {other}?"
    place, asked = _place(name)
    answer = f"ret_val = len(find_objects({one!r})) > len(find_objects({other!r}))"
    code = (
        f"if parse_question({query!r}):\n    put_first_on_second({a!r}, {b!r})\n"
        f"else:\n    put_first_on_second({a!r}, {place})"
    )
    return code, [("parse_question", query, answer), *asked]


def _left(sentence: str) -> tuple[str, Asked]:
    a, side, b, _, bowl, _, _ = _match(
        r"if the (.+?) is (left|right) of the (.+?) put the (.+?) in the (.+?), "
        r"(?:otherwise|else) put the (.+?) in the (.+)",
        sentence,
    )
    query = f"is the {a} {side} of the {b}?"
    sign = ">" if side == "left" else "<"
    answer = f"ret_val = get_obj_pos({a!r})[1] {sign} get_obj_pos({b!r})[1]"
    code = (
        f"if parse_question({query!r}):\n    put_first_on_second({a!r}, {bowl!r})\n"
        f"else:\n    put_first_on_second({b!r}, {bowl!r})"
    )
    return code, [("parse_question", query, answer)]


def _triangle(sentence: str) -> tuple[str, Asked]:
    cm, kind = _match(r"(?:make|build) a (\d+) cm triangle of the (\w+?)s around the middle", sentence)
    query = f"the corners of a triangle with sides of {cm} cm around the middle"
    answer = f"polygon = make_regular_polygon(get_side_pos('middle'), 3, {int(cm) / 100:.2f})\n"
    names, asked = _every(kind)
    code = f"pts = parse_position({query!r})\nput_objs_at_pts({names}, pts)"
    return code, [("parse_position", query, answer + "ret_val = get_points_from_polygon(polygon)"), *asked]


def _line(sentence: str) -> tuple[str, Asked]:
    kind, start, end = _match(rf"{_VERB} the (\w+?)s in a line from the {_PLACES} to the {_PLACES}", sentence)
    names, asked = _every(kind)
    code = (
        f"names = {names}\npts = parse_position(f'{{len(names)}} points in a line from the {start} to the {end}')\n"
        "put_objs_at_pts(names, pts)"
    )
    for count in (3, 4):
        query = f"{count} points in a line from the {start} to the {end}"
        function = "get_corner_pos" if "corner" in start else "get_side_pos"
        answer = f"line = make_line({function}({start!r}), {function}({end!r}))\n"
        asked.append(("parse_position", query, f"{answer}ret_val = interpolate_pts_on_line(line, {count})"))
    return code, asked


def _matching(sentence: str) -> tuple[str, Asked]:
    found = re.search(r"put the (\w+?)s in the bowls with|put each (\w+) in the bowl", sentence)
    assert found
    names, asked = _every(found[1] or found[2])
    code = f"for obj_name in {names}:\n    put_first_on_second(obj_name, f'{{get_color(obj_name)}} bowl')"
    return code, asked


def _stack(sentence: str) -> tuple[str, Asked]:
    kind, base = _match(r"(?:stack all the|pile the other) (\w+?)s (?:up )?on the (.+)", sentence)
    names, asked = _every(kind, base)
    return f"names = {names}\nstack_objects_in_order([{base!r}] + names)", asked


_WRITERS: Mapping[str, Write] = {
    "beside": _beside,
    "to a place": _to_place,
    "in a bowl": _onto,
    "on a block": _onto,
    "the nth": _nth,
    "so many": _several,
    "all": _several,
    "more than": _more,
    "left of": _left,
    "triangle": _triangle,
    "line": _line,
    "matching bowls": _matching,
    "stack": _stack,
    "undo": lambda sentence: (_to_place if re.search(_PLACES, sentence) else _onto)(sentence),
    "the same with": _onto,
    "the others": _onto,
}


def _then(form: str, command: Command, first: Command) -> tuple[str, Asked]:
    """The program of a later command, which refers to the one before."""
    moved = first.moves[0].body.replace("_", " ")
    where = str(first.moves[0].to).replace("_", " ")
    if form == "undo":
        return f"put_first_on_second({moved!r}, get_obj_pos_before({moved!r}))", []
    if form == "the same with":
        return f"put_first_on_second({command.moves[0].body.replace('_', ' ')!r}, {where!r})", []
    names, asked = _every(moved.split()[-1], moved)
    return f"for obj_name in {names}:\n    put_first_on_second(obj_name, {where!r})", asked
