"""Kills: clients, readers and actors as real processes, killed and stopped at random (``chaos``) or at every
durable step (``points``), while an oracle outside of them knows what must be true."""
