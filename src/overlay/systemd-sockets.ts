// Sockets that systemd has opened for this process (sd_listen_fds): it keeps them while nobody serves them.

const FIRST_FD = 3

/** File descriptors by name (FileDescriptorName= of the socket unit). */
export function inheritedSockets(env: NodeJS.ProcessEnv, pid: number): ReadonlyMap<string, number> {
  if (Number(env.LISTEN_PID) !== pid) return new Map()
  const names = (env.LISTEN_FDNAMES ?? '').split(':')
  const count = Number(env.LISTEN_FDS ?? 0)
  return new Map(Array.from({ length: count }, (_, at) => [names[at] ?? '', FIRST_FD + at]))
}
