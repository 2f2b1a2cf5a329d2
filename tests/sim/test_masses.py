"""Mass properties against MuJoCo's, which works them out by itself."""

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.compile import add_body
from robot.description import Body, Geom
from sim.engines.masses import inertia_of

TURN = tuple(Rotation.from_rotvec([0.3, -0.8, 0.5]).as_quat(scalar_first=True))
SHAPES = {
    "box": Geom("box", (0.02, 0.03, 0.05), (0.1, -0.2, 0.3), TURN, mass=0.4),
    "cylinder": Geom("cylinder", (0.02, 0.05), (0.1, -0.2, 0.3), TURN, mass=0.4),
    "capsule": Geom("capsule", (0.02, 0.05), (0.1, -0.2, 0.3), TURN, mass=0.4),
    "sphere": Geom("sphere", (0.02,), (0.1, -0.2, 0.3), mass=0.4),
}


@pytest.mark.parametrize("shapes", [*([shape] for shape in SHAPES), list(SHAPES)], ids="+".join)
def test_mass_centre_and_inertia_are_mujocos(shapes):
    body = Body("thing", geoms=tuple(SHAPES[shape] for shape in shapes))
    spec = mujoco.MjSpec()
    add_body(spec.worldbody, body)
    model = spec.compile()
    ours = inertia_of(body)
    xx, yy, zz, xy, xz, yz = ours.moments
    turn = Rotation.from_quat(model.body_iquat[1], scalar_first=True).as_matrix()
    assert ours.mass == pytest.approx(model.body_mass[1])
    np.testing.assert_allclose(ours.centre, model.body_ipos[1], atol=1e-9)
    np.testing.assert_allclose(
        [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], turn @ np.diag(model.body_inertia[1]) @ turn.T, atol=1e-9
    )
