"""The program that confines itself by Landlock (and seccomp) and then becomes a command.

Given to the interpreter as text: a file of it could be changed by a command that it confined.
"""

SCRIPT = r"""
import _signal, ctypes, json, os, struct, sys
try:
    with open(int(sys.argv[1]), "rb") as file:
        told = json.load(file)
    libc = ctypes.CDLL(None, use_errno=True)
    def call(*args):
        found = libc.syscall(*args)
        if found < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return found
    abi = call(444, None, 0, 1)
    read = 1 | 4 | 8
    every = (1 << 13) - 1
    every |= sum(1 << bit for least, bit in ((2, 13), (3, 14), (5, 15)) if abi >= least)
    file_only = every & (1 | 2 | 4 | 1 << 14 | 1 << 15)
    fields = [every]
    if abi >= 4:
        fields.append(0 if told["tcp"] else 3)
    if abi >= 6:
        fields.append(3)
    attributes = struct.pack("=%dQ" % len(fields), *fields)
    ruleset = call(444, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path, access in told["rules"]:
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = every if access == "write" else read
        if os.fstat(opened).st_mode & 0o170000 != 0o040000:
            rights &= file_only
        call(445, ruleset, 1, struct.pack("=Qi", rights, opened), 0)
        os.close(opened)
    if libc.prctl(38, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    call(446, ruleset, 0)
    os.close(ruleset)
    # Root keeps its capabilities under Landlock, and with them it reads what processes outside
    # were started with.
    for number in range(64):
        if libc.prctl(24, ctypes.c_ulong(number), 0, 0, 0):
            break
    number = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}.get(os.uname().machine)
    if number and not told["sockets"]:
        # Landlock knows TCP alone: no sockets at all, and no other way to make one (seccomp(2)).
        arch, opens = number
        load, equal, above, answer = 0x20, 0x15, 0x35, 0x06
        steps = (
            (load, 0, 0, 4), (equal, 1, 0, arch), (answer, 0, 0, 0x50000 | 38),
            (load, 0, 0, 0), (above, 0, 1, 0x40000000), (answer, 0, 0, 0x50000 | 38),
            (equal, 0, 1, 425), (answer, 0, 0, 0x50000 | 38),
            (equal, 0, 1, opens), (answer, 0, 0, 0x50000 | 13), (answer, 0, 0, 0x7FFF0000),
        )
        program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *s) for s in steps))
        filters = struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(program))
        if libc.prctl(22, ctypes.c_ulong(2), filters, ctypes.c_ulong(0), ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), "seccomp")
    if libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")
except Exception as error:
    print("runner: the sandbox cannot be made:", error, file=sys.stderr)
    os._exit(126)
env = dict(told["env"])
if "SUBRUNNER_COMMAND" in os.environ:
    env["SUBRUNNER_COMMAND"] = os.environ["SUBRUNNER_COMMAND"]
for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # the interpreter ignores them
    _signal.signal(number, _signal.SIG_DFL)
argv = sys.argv[2:]
try:
    os.execvpe(argv[0], argv, env)
except OSError as error:
    missing = isinstance(error, FileNotFoundError)
    print("runner: %s: %s" % (argv[0], error.strerror), file=sys.stderr)
    os._exit(127 if missing else 126)
"""
