"""What cameras cost that come over ROS 2's wire: 2 of 640x480 at 30 Hz, over Cyclone DDS, into observations.

    python benchmarks/cameras.py                        # JPEG and raw, into observations of 240x320
    python benchmarks/cameras.py --size 0               # as large as they come
    taskset -c 1 python benchmarks/cameras.py --seconds 30 --pictures jpeg

A process of its own is the cameras and the arm (joint states at 50 Hz); this one is what a policy runner is without a
policy: the subscriber, and an observation at every period of a control loop of 50 Hz. Reported are

- the processor time of this process as a share of one core, with the cameras and, for comparison, with the arm alone;
- the added latency: from the moment before a picture is published to the moment at which an observation has it as
  pixels, for an observer who is woken by its arrival. A loop that looks every 20 ms adds its own waiting.

Pictures are of a simulated table, moved a little from one to the next; the publisher has encoded them beforehand, as a
camera driver would in its own process. Targets: less than 15 % of a core, less than 10 ms. Exit status 1 if one is
missed.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import threading
import time
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot import panda
from robot.ros.arm import TRAJECTORY, TopicArm
from robot.ros.dds import DdsTransport
from robot.ros.quality import SENSOR
from robot.topic_map import SECOND, TopicMap

CAMERAS, RATE, HEIGHT, WIDTH = ("front", "wrist"), 30.0, 480, 640
LOOP = 50.0
"""Hz of the control loop and of the joint states."""
DIFFERENT = 8
"""Pictures that are shown in turn."""
KINDS = {"jpeg": "sensor_msgs/msg/CompressedImage", "raw": "sensor_msgs/msg/Image"}
SHARE, LATENCY = 0.15, 0.010


def topic_map(pictures: str | None, size: tuple[int, int] | None) -> TopicMap:
    camera = {} if size is None else {"size": list(size)}
    cameras = {
        name: {"topic": f"/{name}", "type": KINDS[pictures], "max_age": None, **camera}
        for name in (CAMERAS if pictures else ())
    }
    joints = {"joints": list(panda.JOINTS), "unit": "rad"}
    return TopicMap.parse(
        {
            "robot_type": "cameras",
            "rate": 10,
            "max_age": 5.0,
            "cameras": cameras,
            "state": [{"topic": "/joint_states", "type": "sensor_msgs/msg/JointState", **joints}],
            "action": {
                "kind": "joint_position",
                "commands": [{"topic": "/arm", "type": TRAJECTORY, "time": "reception", **joints}],
            },
        }
    )


def views() -> list[NDArray[np.uint8]]:
    """Pictures of a table (480, 640, 3) as a camera's noise and motion make them: no two alike."""
    from PIL import Image

    from sim.world import World

    world = World("open_drawer", cameras={"front": (HEIGHT, HEIGHT)})
    world.reset("test", 0)
    scene = np.asarray(Image.fromarray(world.render("front", HEIGHT, HEIGHT)).resize((WIDTH, HEIGHT)))
    world.close()
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 8, (DIFFERENT, HEIGHT, WIDTH, 3))
    return [np.clip(np.roll(scene, 3 * i, 1) + noise[i], 0, 255).astype(np.uint8) for i in range(DIFFERENT)]


def be_the_robot(domain: int, pictures: str | None, shown: list[NDArray[np.uint8]], ended: Event) -> None:
    """The cameras and the arm, until `ended`."""
    from PIL import Image

    transport = DdsTransport(domain, local=True)
    make = transport.make
    transport.subscribe("/arm", TRAJECTORY, lambda *_: None)
    states = transport.publisher("/joint_states", "sensor_msgs/msg/JointState")
    publishers = [transport.publisher(f"/{name}", KINDS[pictures], SENSOR) for name in CAMERAS] if pictures else []
    messages = []
    for view in shown if pictures else []:
        if pictures == "jpeg":
            buffer = io.BytesIO()
            Image.fromarray(view).save(buffer, "JPEG", quality=90)
            data = np.frombuffer(buffer.getvalue(), np.uint8)
            messages.append({"format": "jpeg", "data": data})
        else:
            fields = {"height": HEIGHT, "width": WIDTH, "encoding": "rgb8", "step": 3 * WIDTH}
            messages.append({**fields, "data": view.ravel()})

    def header() -> Any:
        now = time.time_ns()
        stamp = make("builtin_interfaces/msg/Time", sec=now // SECOND, nanosec=now % SECOND)
        return make("std_msgs/msg/Header", stamp=stamp)

    def arm() -> None:
        home = np.array(panda.HOME)
        while not ended.wait(1 / LOOP):
            kind = "sensor_msgs/msg/JointState"
            states.publish(make(kind, header=header(), name=list(panda.JOINTS), position=home))

    thread = threading.Thread(target=arm)
    thread.start()
    number, due = 0, time.monotonic()
    while not ended.wait(max(due - time.monotonic(), 0.0)):
        for place, publisher in enumerate(publishers):  # cameras are not in step: each has its half of the period
            if place:
                ended.wait(0.5 / RATE)
            fields = messages[number % DIFFERENT]
            publisher.publish(make(KINDS[pictures or ""], header=header(), **fields))
        number += 1
        due = max(due + 1 / RATE, time.monotonic() - 1 / RATE)
    thread.join()
    transport.close()


class WakingArm(TopicArm):
    """Sets `woken` whenever a message has come."""

    woken = threading.Event()

    def _hear(self, topic: str) -> Any:
        heard = super()._hear(topic)

        def wake(message: Any, arrived: int) -> None:
            heard(message, arrived)
            self.woken.set()

        return wake


def measure(pictures: str | None, size: tuple[int, int] | None, seconds: float, shown: list[Any], domain: int) -> Any:
    """(share of a core, frames per second into observations, latencies in s) with these pictures."""
    context = multiprocessing.get_context("spawn")
    ended = context.Event()
    robot = context.Process(target=be_the_robot, args=(domain, pictures, shown, ended), daemon=True)
    robot.start()
    transport = DdsTransport(domain, local=True)
    arm = WakingArm(transport, topic_map(pictures, size), panda.LIMITS, LOOP)
    arm.open(120.0)
    epoch = arm._epoch / SECOND

    begin, used, frames, seen = time.monotonic(), time.process_time(), 0, dict.fromkeys(CAMERAS, 0.0)
    due = begin
    while time.monotonic() - begin < seconds:  # as the control loop does
        observation = arm.observe()
        for name, when in observation.image_times.items():
            frames += when != seen[name]
            seen[name] = when
        due = max(due + 1 / LOOP, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0.0))
    elapsed = time.monotonic() - begin
    share = (time.process_time() - used) / elapsed
    latencies = []
    if pictures:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            arm.woken.wait(1.0)
            arm.woken.clear()
            observation = arm.observe()
            for name, when in observation.image_times.items():
                if when != seen[name]:
                    seen[name] = when
                    latencies.append(time.time() - (epoch + when))
    ended.set()
    robot.join(timeout=20)
    transport.close()
    return share, frames / elapsed, np.array(latencies)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each measurement")
    parser.add_argument("--size", type=int, nargs="+", default=[240, 320], help="height and width, or 0 for no scaling")
    parser.add_argument("--pictures", choices=("jpeg", "raw", "both"), default="both")
    arguments = parser.parse_args()
    size = (arguments.size[0], arguments.size[1]) if len(arguments.size) == 2 else None
    shown = views()
    domain = 110 + os.getpid() % 40
    alone, _, _ = measure(None, size, arguments.seconds, shown, domain)
    print(f"load {os.getloadavg()[0]:.1f}; observations of {size or (HEIGHT, WIDTH)} at {LOOP:g} Hz")
    print(f"the arm alone: {100 * alone:.1f} % of a core")
    missed = False
    for number, pictures in enumerate(("jpeg", "raw") if arguments.pictures == "both" else (arguments.pictures,)):
        share, rate, latencies = measure(pictures, size, arguments.seconds, shown, domain + 40 * (number + 1))
        p5, p50, p99 = 1e3 * np.percentile(latencies, [5, 50, 99])
        each = (share - alone) / rate
        print(
            f"{pictures}: {100 * share:.1f} % of a core at {rate:.1f} pictures/s, {1e3 * each:.2f} ms for each, so "
            f"{100 * each * len(CAMERAS) * RATE:.1f} % at {len(CAMERAS) * RATE:g}/s; latency p5 {p5:.1f}, "
            f"p50 {p50:.1f}, p99 {p99:.1f} ms"
        )
        missed |= each * len(CAMERAS) * RATE > SHARE or p50 > 1e3 * LATENCY
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
