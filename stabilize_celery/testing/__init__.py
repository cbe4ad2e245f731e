"""For tests of this project and of its users: a simulator in virtual time."""
