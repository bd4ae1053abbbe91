"""Stands in for Fargate: runs each task that the emulator's ECS records as a process in a bubblewrap jail.

This is for development on one's own machine. A jail keeps honest mistakes and models' programs away from the machine's
files and network; it shares the machine's kernel and is not a boundary against hostile tenants. In AWS each Fargate
task has a virtual machine of its own.
"""
