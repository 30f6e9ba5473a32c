/** Says, before anything is made, everything that a lab needs and this machine lacks, and what to do about each. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync, rmSync, statfsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { cgroupMounts } from './cgroups.ts'
import { HOSTS_MAX, hostPaths, projectRoot, SOCKET_PATH_BYTES_MAX } from './layout.ts'
import { must, run } from './run.ts'

/** Programs, and the Debian package that brings each. */
const PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  ['dockerd', 'docker.io'],
  ['containerd', 'containerd'],
  ['runc', 'runc'],
  ['docker', 'docker.io (Debian 13: docker-cli)'],
  ['ip', 'iproute2'],
  ['nft', 'nftables'],
  ['iptables', 'iptables'],
  ['conntrack', 'conntrack'],
  ['nsenter', 'util-linux'],
  ['unshare', 'util-linux'],
  ['mount', 'mount'],
  ['hostname', 'hostname'],
  ['tar', 'tar'],
  ['ldd', 'libc-bin'],
]

const DISK_FREE_BYTES_MIN = 2 * 1024 ** 3
const CAP_SYS_ADMIN = 21n

/** @throws with one line for each thing that is missing. */
export async function preflight(options: { readonly labDir: string }): Promise<void> {
  const problems = await findProblems(options.labDir)
  if (problems.length === 0) return
  throw new Error(
    `this machine cannot run a lab yet:\n${problems.map((problem) => `  - ${problem}`).join('\n')}\n` +
      '("make deps" installs missing packages on Debian, and says what it installs first)',
  )
}

/** What is missing, in the user's words; nothing if a lab can run. */
export async function findProblems(labDir: string): Promise<string[]> {
  if (process.platform !== 'linux') return [`Linux is needed, this is ${process.platform}: use a Linux machine or VM`]
  const problems: string[] = []
  if (process.getuid?.() !== 0) return ['root is needed for network namespaces and engines: run it again with sudo']
  if (!hasSysAdmin()) return ['CAP_SYS_ADMIN is needed: this seems to be an unprivileged container']
  for (const [program, debianPackage] of PROGRAMS) {
    if (!findProgram(program)) problems.push(`${program} is not in PATH: apt-get install ${debianPackage}`)
  }
  const socket = hostPaths(labDir, `n${HOSTS_MAX}`).engineSocket
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES_MAX) {
    problems.push(`${labDir} is too long for the path of a socket in it: use --dir with a shorter one`)
  }
  if (/^(\/var)?\/run(\/|$)/.test(labDir))
    problems.push(`${labDir} is below /run, which hosts do not share: use another --dir`)
  if (problems.length > 0) return problems // what follows uses the programs
  problems.push(...(await kernelProblems()), ...(await diskProblems(labDir)))
  if (!(await findStaticBusybox())) {
    problems.push('no statically linked busybox, which the images are made of: apt-get install busybox-static')
  }
  return problems
}

/** In PATH, or where `make deps` unpacks it for a machine that has Debian's other busybox package. */
export async function findStaticBusybox(): Promise<string | undefined> {
  for (const file of [join(projectRoot, '.build/tools/bin/busybox'), findProgram('busybox')]) {
    if (file && isExecutable(file) && (await run(['ldd', file])).code !== 0) return file
  }
  return undefined
}

function hasSysAdmin(): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return (BigInt(`0x${mask}`) & (1n << CAP_SYS_ADMIN)) !== 0n
}

export function findProgram(program: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return folders.map((folder) => join(folder, program)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

async function kernelProblems(): Promise<string[]> {
  const problems: string[] = []
  const mounts = cgroupMounts()
  if (mounts.length === 0) {
    problems.push('no cgroup file system is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup')
  } else if (existsSync('/sys/fs/cgroup/cgroup.controllers')) {
    const has = readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').trim().split(' ')
    const lacks = ['cpu', 'memory', 'pids'].filter((controller) => !has.includes(controller))
    if (lacks.length > 0) {
      problems.push(
        `cgroup controllers ${lacks.join(', ')} are not available in /sys/fs/cgroup: delegate them to this machine`,
      )
    }
  }
  // in namespaces that vanish with the command
  const trial =
    'ip link set lo up && ip link add v0 type veth peer name v1 && ip link add br0 type bridge && ip link set v1 master br0'
  const links = await run(['unshare', '--net', '--mount', 'sh', '-c', trial])
  if (links.code !== 0) {
    problems.push(
      `the kernel refuses network namespaces, veth or bridges (modprobe veth bridge): ${links.stderr.trim()}`,
    )
  }
  const table =
    'table bridge t { set s { type ifname . ifname; }; chain c { type filter hook forward priority 0; iifname . oifname @s drop; }; }'
  const nft = await run(['unshare', '--net', 'nft', table])
  if (nft.code !== 0)
    problems.push(`the kernel refuses an nftables bridge table (modprobe nft_meta_bridge): ${nft.stderr.trim()}`)
  const iptables = await run(['unshare', '--net', 'iptables', '-t', 'nat', '-L', '-n'])
  if (iptables.code !== 0) problems.push(`iptables cannot do NAT, which engines need: ${iptables.stderr.trim()}`)
  return problems
}

async function diskProblems(labDir: string): Promise<string[]> {
  const trial = join(labDir, `trial-${process.pid}`)
  const made = mkdirSync(trial, { recursive: true })
  try {
    for (const part of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(trial, part))
    const options = `lowerdir=${trial}/lower,upperdir=${trial}/upper,workdir=${trial}/work`
    const mount = `mount -t overlay overlay -o "$1" "$2"/merged && touch "$2"/merged/x`
    const overlay = await run([
      'unshare',
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-c',
      mount,
      'sh',
      options,
      trial,
    ])
    const problems: string[] = []
    if (overlay.code !== 0) {
      const type = (await must(['stat', '-f', '-c', '%T', labDir])).trim()
      problems.push(
        `overlay file systems do not work on ${labDir} (${type}): use --dir on ext4, xfs or tmpfs; ${overlay.stderr.trim()}`,
      )
    }
    const { bavail, bsize } = statfsSync(labDir)
    if (bavail * bsize < DISK_FREE_BYTES_MIN)
      problems.push(`${labDir} has less than 2 GiB free: use --dir on a larger disk`)
    return problems
  } finally {
    rmSync(trial, { recursive: true, force: true })
    if (made && made !== trial) await run(['rmdir', '--ignore-fail-on-non-empty', '--', labDir])
  }
}
