"""A person and a robot at work: one control holder, speech, teleoperation, recording; and the web page for it."""
