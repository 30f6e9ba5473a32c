/**
 * The cgroups of a lab: /NAME/HOST in every hierarchy of the machine (version 1, version 2 or both). The engines make
 * them, with the cgroupfs driver, so that a machine with systemd and one without are alike.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

export const hostCgroup = (labName: string, hostName: string): string => `/${labName}/${hostName}`

/** Where this machine has its cgroup file systems mounted. */
export function cgroupMounts(): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n')
  const points = lines.flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ')
    const type = after.split(' ')[0]
    return type === 'cgroup' || type === 'cgroup2' ? [before.split(' ')[4] ?? ''] : []
  })
  return [...new Set(points)].filter((point) => point !== '')
}

export const isCgroup2Only = (): boolean => existsSync('/sys/fs/cgroup/cgroup.controllers')

/**
 * With version 2 a controller works in a cgroup only where each one above it hands it down.
 * Answers the controllers that could not be had.
 */
export function delegateControllers(labName: string, hostName: string): string[] {
  if (!isCgroup2Only()) return []
  const root = '/sys/fs/cgroup'
  const host = join(root, hostCgroup(labName, hostName))
  mkdirSync(host, { recursive: true })
  const wanted = ['cpuset', 'cpu', 'io', 'memory', 'pids']
  for (const dir of [root, join(root, labName), host]) {
    for (const controller of wanted) {
      try {
        writeFileSync(join(dir, 'cgroup.subtree_control'), `+${controller}`)
      } catch {
        // judged below: what matters is what arrives at the end
      }
    }
  }
  const arrived = readFileSync(join(host, 'cgroup.subtree_control'), 'utf8').trim().split(' ')
  return wanted.filter((controller) => !arrived.includes(controller))
}

/** Removes `/path` and all below it in every hierarchy. Its processes must be dead. Answers what could not be removed. */
export async function removeCgroups(path: string): Promise<string[]> {
  const roots = () =>
    cgroupMounts()
      .map((mount) => join(mount, path))
      .filter(existsSync)
  // a process that was just killed holds its cgroup until the kernel has buried it
  for (let attempt = 0; attempt < 100; attempt++) {
    for (const root of roots()) removeTree(root)
    if (roots().length === 0) return []
    await delay(20)
  }
  return roots()
}

function removeTree(dir: string): void {
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory()) removeTree(join(dir, entry.name))
    }
    rmdirSync(dir)
  } catch {
    // busy or gone: the caller looks again
  }
}
