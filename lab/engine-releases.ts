/**
 * Engines of other Debian releases, unpacked beside the system: see lab/unpack-engine.sh. Kept in .build, and fetched again where
 * that was removed.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from './layout.ts'
import { run } from './run.ts'

const FETCH_MS = 600_000

/** Where the engine of each host lies. @throws with what the script says */
export async function unpackedEngines(
  releases: Readonly<Record<string, string>>,
  log: (line: string) => void,
): Promise<ReadonlyMap<string, string>> {
  const roots = new Map<string, string>()
  for (const release of new Set(Object.values(releases))) roots.set(release, await unpackedEngine(release, log))
  return new Map(Object.entries(releases).map(([host, release]) => [host, roots.get(release) ?? '']))
}

async function unpackedEngine(release: string, log: (line: string) => void): Promise<string> {
  if (!/^[a-z]+$/.test(release)) throw new Error(`"${release}" is no release of Debian: trixie, sid`)
  const root = join(projectRoot, '.build/tools/engines', release)
  if (existsSync(join(root, 'usr/sbin/dockerd'))) return root
  log(`fetching the engine of Debian ${release} (nothing is installed)`)
  const script = join(projectRoot, 'lab/unpack-engine.sh')
  const { code, stdout, stderr } = await run(['bash', script, release, root], { timeoutMs: FETCH_MS })
  if (code !== 0) throw new Error(`the engine of Debian ${release} is not to be had: ${stderr.trim()}`)
  log(stdout.trim().replaceAll('\n', ', '))
  return root
}
