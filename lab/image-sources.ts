/**
 * Where the programs for the lab's images come from: a static busybox, this process's own node, and redis and postgres as
 * Debian's packages have them, which `make deps` unpacks (without installing them) or the machine has installed.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from './layout.ts'
import { findStaticBusybox } from './preflight.ts'
import { run } from './run.ts'

/** A file of this machine, and where an image has it (without the first slash). */
export interface Program {
  readonly path: string
  readonly from: string
}

const unpacked = join(projectRoot, '.build/tools/servers')
const roots: readonly string[] = [unpacked, '/']

export async function findBusybox(): Promise<string> {
  const busybox = await findStaticBusybox()
  if (!busybox) throw new Error('no statically linked busybox: apt-get install busybox-static')
  return busybox
}

/** The server and its client. */
export function findRedis(): readonly Program[] {
  // the same file under both names; Debian has the first in redis-tools, which starts no server
  for (const root of roots) {
    for (const name of ['redis-check-rdb', 'redis-server']) {
      const from = join(root, 'usr/bin', name)
      if (!existsSync(from)) continue
      return [
        { path: 'usr/local/bin/redis-server', from },
        { path: 'usr/local/bin/redis-cli', from: join(root, 'usr/bin/redis-cli') },
      ]
    }
  }
  throw new Error('no redis for the images of the voting app: "make deps" unpacks it')
}

/** The newest version that is there, below usr/lib/postgresql and usr/share/postgresql of `root`. */
export function findPostgres(): { readonly root: string; readonly version: string } {
  for (const root of roots) {
    const folder = join(root, 'usr/lib/postgresql')
    const versions = existsSync(folder) ? readdirSync(folder) : []
    const [version] = versions
      .filter((name) => existsSync(join(folder, name, 'bin/postgres')))
      .toSorted((a, b) => Number(b) - Number(a))
    if (version !== undefined) return { root, version }
  }
  throw new Error('no postgresql for the images of the voting app: "make deps" unpacks it')
}

/** The shared libraries that `ldd` names, and where an image needs them. @throws if one is missing. */
export async function librariesOf(files: readonly string[]): Promise<readonly Program[]> {
  const own = ['usr/lib', 'lib'].flatMap((folder) => multiarchFolders(join(unpacked, folder)))
  const listed = await run(['ldd', ...files], { env: { ...process.env, LD_LIBRARY_PATH: own.join(':') } })
  const missing = /^\s*(\S+) => not found$/m.exec(listed.stdout)
  if (missing) throw new Error(`the library ${missing[1]} is missing: "make deps" brings it`)
  const found = [...listed.stdout.matchAll(/(?:=>\s+|^\s+)(\/\S+) \(/gm)].map((match) => match[1] ?? '')
  return [...new Set(found)]
    .toSorted()
    .map((from) => ({ path: (from.startsWith(unpacked) ? from.slice(unpacked.length) : from).slice(1), from }))
}

const multiarchFolders = (folder: string): readonly string[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.includes('-linux-'))
        .map((name) => join(folder, name))
    : []
