// Which docker clients this machine has. Debian's 20.10 always; a newer one, where it stands, in /usr/local/bin: what that one is
// known to do is recorded in test/cli/golden and test/conformance, so that a machine without it tests against the same.

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const PLACES = ['/usr/local/bin/docker', '/usr/bin/docker']
/** swarmctl says and prints what this version does. */
const MODERN = 28

/** The newest first. */
export const DOCKER_CLIENTS: readonly string[] = PLACES.filter((path) => existsSync(path))
export const NEWEST_DOCKER = DOCKER_CLIENTS[0] ?? 'docker'
export const OLDEST_DOCKER = DOCKER_CLIENTS.at(-1) ?? 'docker'

/** Whether the client's words, columns and flags are those that swarmctl has. */
export function isModern(path: string): boolean {
  const [, major = '0'] = /version (\d+)\./.exec(execFileSync(path, ['--version'], { encoding: 'utf8' })) ?? []
  return Number(major) >= MODERN
}
