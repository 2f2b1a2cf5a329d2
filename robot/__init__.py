"""What an arm is: the contract, kinematics, skills. No torch and nothing else of ours is imported here."""
