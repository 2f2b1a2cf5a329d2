"""Writes a tree of our bodies as URDF, the format in which PyBullet takes links made of several shapes.

One body is one link of the same name. Sites are not written: they are fixed to their body, so an engine can place
them itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from scipy.spatial.transform import Rotation

from robot.description import IDENTITY, ORIGIN, Body, Geom, Quaternion, Vector
from robot.errors import TongsError
from sim.engines.masses import inertia_of
from sim.engines.meshes import mesh

_KINDS = {"hinge": "revolute", "slide": "prismatic"}
_AXES = ("xx", "yy", "zz", "xy", "xz", "yz")


def write_urdf(body: Body, folder: Path) -> Path:
    """Write the tree as a URDF file whose root link is `body`, and the meshes of its round shapes beside it. Where the
    root stands and whether it is free is not part of it.

    Raises:
        TongsError: a free joint somewhere below the root, which URDF cannot express.
    """
    robot = ElementTree.Element("robot", name=body.name)
    _add_link(robot, body, folder)
    ElementTree.indent(robot)  # PyBullet cuts lines at 1024 characters
    path = folder / f"{body.name}.urdf"
    path.write_text(ElementTree.tostring(robot, encoding="unicode"))
    return path


def _add_link(robot: ElementTree.Element, body: Body, folder: Path) -> None:
    link = ElementTree.SubElement(robot, "link", name=body.name)
    _add_inertial(link, body)
    for number, geom in enumerate(body.geoms):
        visual = ElementTree.SubElement(link, "visual")
        _add_look(visual, geom, folder)
        material = ElementTree.SubElement(visual, "material", name=f"{body.name}_{number}")
        ElementTree.SubElement(material, "color", rgba=_numbers(geom.colour))
        if geom.collides != "none":
            _add_shape(ElementTree.SubElement(link, "collision"), geom)
    for child in body.children:
        _add_link(robot, child, folder)
        _add_joint(robot, body, child)


def _add_inertial(link: ElementTree.Element, body: Body) -> None:
    """The armature of a slide moves along it like mass, and is added to the body's. URDF has no word for that of a
    hinge; the arm's hinges are driven by velocity constraints, which do not feel it."""
    inertia = inertia_of(body)
    armature = body.joint.armature if body.joint is not None and body.joint.kind == "slide" else 0.0
    inertial = ElementTree.SubElement(link, "inertial")
    _add_origin(inertial, inertia.centre, IDENTITY)
    ElementTree.SubElement(inertial, "mass", value=repr(inertia.mass + armature))
    moments = {f"i{axes}": repr(moment) for axes, moment in zip(_AXES, inertia.moments, strict=True)}
    ElementTree.SubElement(inertial, "inertia", moments)


def _add_shape(element: ElementTree.Element, geom: Geom) -> None:
    _add_origin(element, geom.position, geom.quaternion)
    geometry = ElementTree.SubElement(element, "geometry")
    if geom.shape == "box":
        ElementTree.SubElement(geometry, "box", size=_numbers(2 * half for half in geom.size))
    elif geom.shape == "sphere":
        ElementTree.SubElement(geometry, "sphere", radius=repr(geom.size[0]))
    else:
        ElementTree.SubElement(geometry, geom.shape, radius=repr(geom.size[0]), length=repr(2 * geom.size[1]))


def _add_look(element: ElementTree.Element, geom: Geom, folder: Path) -> None:
    if geom.shape == "box":
        return _add_shape(element, geom)
    path = folder / f"{geom.shape}_{'_'.join(f'{size:.6f}' for size in geom.size)}.obj"
    if not path.exists():
        path.write_text(mesh(geom))
    _add_origin(element, geom.position, geom.quaternion)
    ElementTree.SubElement(ElementTree.SubElement(element, "geometry"), "mesh", filename=str(path))
    return None


def _add_joint(robot: ElementTree.Element, parent: Body, child: Body) -> None:
    joint = child.joint
    if joint is not None and joint.floats:
        raise TongsError(f"body {child.name!r} has a free joint and hangs on {parent.name!r}; free bodies stand alone")
    kind, name = ("fixed", f"{child.name}_mount") if joint is None else (_KINDS[joint.kind], joint.name)
    element = ElementTree.SubElement(robot, "joint", name=name, type=kind)
    ElementTree.SubElement(element, "parent", link=parent.name)
    ElementTree.SubElement(element, "child", link=child.name)
    _add_origin(element, child.position, child.quaternion)
    if joint is not None:
        ElementTree.SubElement(element, "axis", xyz=_numbers(joint.axis))
        limits = {"lower": repr(joint.low), "upper": repr(joint.high), "effort": "1000", "velocity": "100"}
        ElementTree.SubElement(element, "limit", limits)
        ElementTree.SubElement(element, "dynamics", damping=repr(joint.damping), friction="0")


def _add_origin(element: ElementTree.Element, position: Vector, quaternion: Quaternion) -> None:
    attributes = {}
    if position != ORIGIN:
        attributes["xyz"] = _numbers(position)
    if quaternion != IDENTITY:
        with warnings.catch_warnings():  # at the gimbal lock one of many right answers is taken
            warnings.simplefilter("ignore", UserWarning)
            turn = Rotation.from_quat(quaternion, scalar_first=True).as_euler("xyz")
        attributes["rpy"] = _numbers(turn)
    if attributes:
        ElementTree.SubElement(element, "origin", attributes)


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(float(value)) for value in values)
