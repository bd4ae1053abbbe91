"""Describes a jail to bubblewrap: which namespaces, what is mounted, what is left out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from local.fargate.sandbox_environment import JAIL_INIT, SandboxEnvironment

USER_ID = 1000
EGRESS_PORT = 7101
SOFTWARE = "/opt/runyard"
_RUN_PROCESS_ONE = (
    f"import sys; sys.path.insert(0, {SOFTWARE + '/init'!r});"
    " from local.fargate.jail_init.process_one import run; run(int(sys.argv[1]))"
)
_TMP_BYTES = 512 * 1024 * 1024
_SHARED_MEMORY_BYTES = 64 * 1024 * 1024
_SYSTEM = "/usr"
# Links into /usr on current systems, folders of their own on older ones.
_SYSTEM_OR_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Nothing private: as root the jail could read what only root may.
_ETC = (
    "/etc/alternatives",
    "/etc/ca-certificates.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
_ETC_FILES = {
    "passwd": f"sandbox:x:{USER_ID}:{USER_ID}::/workspace:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "group": f"sandbox:x:{USER_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}


@dataclass(frozen=True, slots=True)
class Jail:
    """One sandbox's surroundings. `hidden` are folders of this machine that no mount may show."""

    environment: SandboxEnvironment
    etc: Path
    workspace: Path
    hidden: tuple[Path, ...] = ()

    def command(self, bwrap: Path, *, control: int, user_namespace: int | None) -> list[str]:
        """Return the command that starts the jail. Both descriptors are inherited: its process 1 speaks over the first,
        and the second, given by root only, is the namespace that maps the jail's user.
        """
        interpreter = f"{SOFTWARE}/venv/bin/python"
        # Neither the environment nor site-packages matter to it: without them it starts in half the time.
        init = [interpreter, "-I", "-S", "-c", _RUN_PROCESS_ONE, str(control)]
        return [str(bwrap), *_NAMESPACES, *_user(user_namespace), *self._mounts(), "--chdir", "/", "--", *init]

    def _mounts(self) -> Iterator[str]:
        yield from ("--size", str(_TMP_BYTES), "--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108 - the jail's own
        mount_points = [f"{SOFTWARE}/venv", f"{SOFTWARE}/program/sandbox", f"{SOFTWARE}/init/local/fargate/jail_init"]
        yield from _open_to_all([*_ETC, *mount_points, *map(str, self.environment.interpreters)])
        yield from self._system()
        yield from ("--proc", "/proc", "--dev", "/dev")
        yield from ("--size", str(_SHARED_MEMORY_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm")  # noqa: S108
        interpreters = [path for path in self.environment.interpreters if not path.is_relative_to(_SYSTEM)]
        for folder in interpreters:
            yield from ("--ro-bind", str(folder), str(folder))
        for folder in self.hidden:
            if any(folder.is_relative_to(shown) for shown in (Path(_SYSTEM), *interpreters)):
                yield from ("--tmpfs", str(folder))
        yield from ("--ro-bind", str(self.environment.venv), f"{SOFTWARE}/venv")
        yield from ("--ro-bind", str(self.environment.program), f"{SOFTWARE}/program/sandbox")
        yield from ("--ro-bind", str(JAIL_INIT), f"{SOFTWARE}/init/local/fargate/jail_init")
        yield from ("--bind", str(self.workspace), "/workspace")
        yield from ("--remount-ro", "/dev", "--remount-ro", "/")

    def _system(self) -> Iterator[str]:
        yield from ("--ro-bind", _SYSTEM, _SYSTEM)
        for folder in map(Path, _SYSTEM_OR_LINKS):
            if folder.is_symlink():
                yield from ("--symlink", str(folder.readlink()), str(folder))
            elif folder.is_dir():
                yield from ("--ro-bind", str(folder), str(folder))
        for path in _ETC:
            yield from ("--ro-bind-try", path, path)
        for name in _ETC_FILES:
            yield from ("--ro-bind", str(self.etc / name), f"/etc/{name}")


_NAMESPACES = (
    # Mount always; the user's is made by bubblewrap or, for root, handed over.
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--hostname", "sandbox"),
    *("--cap-drop", "ALL"),
    "--clearenv",
    "--new-session",
    "--die-with-parent",
    "--as-pid-1",
)


def _user(namespace: int | None) -> tuple[str, ...]:
    if namespace is None:
        return ("--unshare-user", "--disable-userns", "--uid", str(USER_ID), "--gid", str(USER_ID))
    # Process 1 starts as the namespace's root and becomes the jail's user first of all.
    return ("--userns", str(namespace), "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")


def _open_to_all(folders: Iterable[str]) -> Iterator[str]:
    """Make mount points' parents, which bubblewrap would make for root only."""
    parents = {parent for folder in folders for parent in Path(folder).parents if parent != Path("/")}
    for parent in sorted(parents):
        yield from ("--perms", "0755", "--dir", str(parent))


def write_etc(folder: Path) -> None:
    """Write the few system files that a jail sees in place of this machine's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in _ETC_FILES.items():
        (folder / name).write_text(text)
