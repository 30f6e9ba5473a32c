/**
 * A lab of three hosts that end-to-end files share, one after the other. The runner brings it up and takes it
 * down; a file that is run by itself does so for itself. (The runner is no test: it must not import tap.)
 */
import { Lab } from '../../../lab/lab.ts'
import { defaultLabDir } from '../../../lab/layout.ts'
import { registeredDir, registeredNames } from '../../../lab/state.ts'

/** Names the shared lab's directory to the test files. */
export const SHARED_LAB_VARIABLE = 'SWARMCTL_E2E_LAB'

/** Bounds a file that hangs; the runner gives tap the same. */
export const FILE_TIMEOUT_MS = 600_000

const DEFAULT_NAME = 'e2e'

export function bringUpSharedLab(log: (line: string) => void, name: string = DEFAULT_NAME): Promise<Lab> {
  return Lab.up({ name, dir: defaultLabDir(name), managers: 3, workers: 0, log })
}

export function takeDownSharedLab(): Promise<void> {
  return Lab.down({ name: DEFAULT_NAME, dir: defaultLabDir(DEFAULT_NAME) })
}

/** Also the labs of files that were interrupted: a file that brings up its own names it e2eSOMETHING. */
export async function takeDownTestLabs(): Promise<void> {
  for (const name of ['e2e', ...registeredNames()]) {
    const dir = defaultLabDir(name)
    if (/^e2e/.test(name) && (registeredDir(name) ?? dir) === dir) await Lab.down({ name, dir })
  }
}

/** What a test file needs of tap. */
export interface TestFile {
  readonly comment: (line: string) => void
  readonly teardown: (handler: () => Promise<void>) => void
  readonly setTimeout: (durationMs: number) => void
}

/** The shared lab, with all its engines and every `swarmd` running and every link whole. */
export async function sharedLab(t: TestFile): Promise<Lab> {
  const dir = process.env[SHARED_LAB_VARIABLE]
  const log = (line: string) => t.comment(line)
  if (!dir) {
    t.setTimeout(FILE_TIMEOUT_MS)
    t.teardown(takeDownSharedLab)
    return bringUpSharedLab(log)
  }
  const lab = Lab.attach({ dir, log })
  await mend(lab)
  return lab
}

/** What an earlier file cut, killed, paused or switched off is as it was. */
async function mend(lab: Lab): Promise<void> {
  await lab.heal()
  for (const host of lab.hosts) {
    for (const name of ['engine', 'swarmd'] as const) if (host.process(name)) host.resume(name)
  }
  await Promise.all(lab.hosts.map((host) => host.boot()))
}
