"""The nodes of Tongs for colcon; the distribution `tongs` itself is installed beside them with pip."""

from glob import glob

from setuptools import setup

NAME = "tongs_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.py")),
        (f"share/{NAME}/config", glob("config/*.yaml")),
        (f"share/{NAME}/rviz", glob("rviz/*.rviz")),
        (f"share/{NAME}/foxglove", glob("foxglove/*.json")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The Tongs developers",
    maintainer_email="tongs@example.org",
    description="Nodes of Tongs",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            f"policy_runner = {NAME}.policy_runner:main",
            f"simulated_robot = {NAME}.simulated_robot:main",
            f"arm_server = {NAME}.arm_server:main",
            f"episode_recorder = {NAME}.episode_recorder:main",
            f"teleop = {NAME}.teleop:main",
            f"gripper_action = {NAME}.gripper_action:main",
        ]
    },
)
