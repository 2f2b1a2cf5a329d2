"""Reading ROS 2 messages by their fields: images of every encoding, joints by name, poses, paths."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from robot import ros_messages
from robot.errors import TongsError
from robot.images import scale_down
from tests.data.episodes import pictures
from tests.robot import bag_messages as bag

PIXELS = pictures(3, 1, (8, 6))[0]


def test_raw_images_become_rgb() -> None:
    for encoding in ("rgb8", "bgr8"):
        np.testing.assert_array_equal(ros_messages.image(bag.rgb_image(0, PIXELS, encoding)), PIXELS)
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(ros_messages.image(bag.raw_image(0, grey, "mono8", 6)), np.stack([grey] * 3, axis=-1))
    four = np.concatenate([PIXELS[..., ::-1], np.full((8, 6, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(ros_messages.image(bag.raw_image(0, four.reshape(8, -1), "bgra8", 6)), PIXELS)


def test_rows_may_be_longer_than_their_pixels() -> None:
    rows = np.concatenate([PIXELS.reshape(8, -1), np.full((8, 5), 99, np.uint8)], axis=1)
    np.testing.assert_array_equal(ros_messages.image(bag.raw_image(0, rows, "rgb8", 6)), PIXELS)


def test_compressed_images_are_decoded() -> None:
    np.testing.assert_array_equal(ros_messages.image(bag.compressed_image(0, PIXELS, "png")), PIXELS)
    large = pictures(3, 1, (64, 48))[0]
    decoded = ros_messages.image(bag.compressed_image(0, large, "jpeg"))
    assert np.abs(decoded.astype(int) - large).mean() < 3


def test_pictures_that_are_none_are_refused() -> None:
    depth = bag.raw_image(0, np.zeros((8, 12), np.uint8), "16UC1", 6)
    with pytest.raises(TongsError, match="'16UC1' is a depth picture"):
        ros_messages.image(depth)
    with pytest.raises(TongsError, match="needs 144 bytes, got 54"):
        short = np.zeros(54, np.uint8)
        ros_messages.image(bag.make("sensor_msgs/msg/Image", bag.header(0), 8, 6, "rgb8", 0, 18, short))
    with pytest.raises(TongsError, match="depth picture"):
        ros_messages.image(bag.compressed_image(0, np.zeros((4, 4), np.uint16), "png"))
    broken = bag.compressed_image(0, PIXELS, "png")
    broken.data = broken.data[:40]
    with pytest.raises(TongsError, match="cannot be decoded"):
        ros_messages.image(broken)
    with pytest.raises(TongsError, match="std_msgs/msg/String is no image"):
        ros_messages.image(bag.text("hello"))


def test_joints_are_found_by_name() -> None:
    message = bag.joint_state(0, {"b": 2.0, "finger": 0.5, "a": 1.0})
    np.testing.assert_array_equal(ros_messages.joints(message, "position", ["a", "b"]), [1.0, 2.0])
    with pytest.raises(TongsError, match="joint c is missing; the message has b, finger, a"):
        ros_messages.joints(message, "position", ["a", "c"])
    with pytest.raises(TongsError, match="3 names and 0 entries of velocity"):
        ros_messages.joints(message, "velocity", ["a"])


def test_poses_of_every_message() -> None:
    quaternion = Rotation.from_euler("xyz", [0.3, -0.2, 2.9]).as_quat()  # x, y, z, w
    wanted = np.concatenate([[1.0, 2.0, 3.0], np.roll(quaternion, 1)])
    wanted[3:] *= np.sign(wanted[3])
    for stamped in (bag.pose(0, [1, 2, 3], -quaternion), bag.transform(0, [1, 2, 3], quaternion)):
        inner = stamped.pose if hasattr(stamped, "pose") else stamped.transform
        for message in (stamped, inner):
            np.testing.assert_allclose(ros_messages.pose(message), wanted, atol=1e-12)
    with_covariance = bag.make("geometry_msgs/msg/PoseWithCovariance", bag.pose(0, [1, 2, 3], quaternion).pose, None)
    np.testing.assert_allclose(ros_messages.pose(SimpleNamespace(pose=with_covariance)), wanted, atol=1e-12)
    with pytest.raises(TongsError, match="is no rotation"):
        ros_messages.pose(bag.pose(0, [0, 0, 0], [0, 0, 0, 0]))
    with pytest.raises(TongsError, match="std_msgs/msg/String holds no pose"):
        ros_messages.pose(bag.text("hello"))


def test_fields_by_path() -> None:
    message = bag.twist(0, [1, 2, 3], [4, 5, 6])
    assert ros_messages.numbers(message, "twist.angular.y").tolist() == [5.0]
    assert ros_messages.numbers(bag.float_array(7, 8, 9), "data[1]").tolist() == [8.0]
    assert ros_messages.numbers(bag.float_array(7, 8, 9), "data").tolist() == [7.0, 8.0, 9.0]
    for path, said in {"twist.linar.x": "no field 'twist.linar.x'", "header.frame_id": "no number"}.items():
        with pytest.raises(TongsError, match=said):
            ros_messages.numbers(message, path)
    with pytest.raises(TongsError, match=r"no entry 'data\[3\]'"):
        ros_messages.numbers(bag.float_array(7, 8, 9), "data[3]")


def test_stamps_are_whole_nanoseconds() -> None:
    stamp = 1_700_000_000_123_456_789
    assert ros_messages.header_stamp(bag.pose(stamp, [0, 0, 0], [0, 0, 0, 1])) == stamp
    assert ros_messages.header_stamp(bag.text("hello")) is None
    assert ros_messages.frame_id(bag.pose(stamp, [0, 0, 0], [0, 0, 0, 1], "world")) == "world"


def test_a_jpeg_file_that_will_be_scaled_down_is_decoded_smaller() -> None:
    """By libjpeg, where a whole factor is left: nearly the mean of what it would have been."""
    scene = np.asarray(Image.fromarray(pictures(5, 1, (12, 16))[0]).resize((640, 480), Image.Resampling.BICUBIC))
    message = bag.compressed_image(0, scene, "jpeg")
    whole = ros_messages.image(message)
    for size, decoded in (
        ((240, 320), (240, 320)),
        ((120, 160), (120, 160)),
        ((60, 160), (120, 160)),
        ((100, 100), (480, 640)),
    ):
        small = ros_messages.image(message, size)
        assert small.shape == (*decoded, 3)
        difference = scale_down(small, size).astype(int) - scale_down(whole, size)
        assert np.abs(difference).mean() < 1 and np.abs(difference).max() < 12
    png = bag.compressed_image(0, scene, "png")
    np.testing.assert_array_equal(ros_messages.image(png, (240, 320)), scene)


def test_a_raw_picture_is_not_copied() -> None:
    message = bag.rgb_image(0, PIXELS)
    assert np.shares_memory(ros_messages.image(message), np.asarray(message.data))
