"""Image size, where a container engine on this machine has the service's image."""

import subprocess

from loadtest.cost.figures import MIB, Figure, missing

NAME, UNIT = "image size", "MiB"
ASK_S = 20


def image_size(service: str, docker: str = "docker") -> Figure:
    """Return the size of the image that docker-compose.yml names for a service. docker: the program to ask."""
    try:
        names = _ask(docker, "compose", "config", "--images", service).split()
        size = int(_ask(docker, "image", "inspect", "--format", "{{.Size}}", names[0]))
    except FileNotFoundError:
        return missing(NAME, UNIT, "docker is not installed")
    except (subprocess.SubprocessError, OSError, ValueError, IndexError):
        return missing(NAME, UNIT, f"docker has no image of {service} here")
    return Figure(NAME, size / MIB, UNIT, f"docker image inspect {names[0]}, unpacked")


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=True)
    return done.stdout.strip()
