/** What is in the images of the lab: each layer as a list of files, from what the machine has (see lab/image-sources.ts). */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { findBusybox, findPostgres, findRedis, librariesOf, type Program } from './image-sources.ts'
import { projectRoot } from './layout.ts'
import { must } from './run.ts'

export type LayerName = 'busybox' | 'node' | 'hello' | 'voting' | 'redis' | 'postgres'

/** A file of an image: a copy, a text, a symbolic link or a folder. `path` begins without a slash. */
export type Entry =
  | { readonly kind: 'copy'; readonly path: string; readonly from: string; readonly mode: number }
  | { readonly kind: 'text'; readonly path: string; readonly text: string; readonly mode: number }
  | { readonly kind: 'link'; readonly path: string; readonly to: string }
  | { readonly kind: 'folder'; readonly path: string; readonly mode: number }

/** @throws with what to install, if a layer's programs are not there. */
export const layers: Readonly<Record<LayerName, () => Promise<readonly Entry[]>>> = {
  busybox: busyboxLayer,
  node: async () => programs([{ path: 'usr/local/bin/node', from: process.execPath }]),
  hello: async () => [copy('srv/hello.cjs', ownFile('hello.cjs'), 0o644), copy('bin/healthy', ownFile('healthy'))],
  voting: async () => {
    const source = join(projectRoot, 'compose-examples/voting-app/src')
    const files = readdirSync(source).toSorted()
    return [
      ...users('node:x:1000:1000:node:/app:/bin/sh'),
      ...files.map((file) => copy(`app/${file}`, join(source, file), file === 'healthy' ? 0o755 : 0o644)),
    ]
  },
  redis: async () => [
    ...users('redis:x:999:1000:redis:/data:/bin/false'),
    ...(await programs(findRedis())),
    copy('usr/local/bin/docker-entrypoint.sh', ownFile('redis-entrypoint')),
  ],
  postgres: async () => {
    const { version, root } = findPostgres()
    const home = `usr/lib/postgresql/${version}`
    const share = `usr/share/postgresql/${version}`
    const files = (folder: string, wanted: (file: string) => boolean = () => true): readonly Program[] =>
      readdirSync(join(root, folder), { withFileTypes: true })
        .filter((entry) => entry.isFile() && wanted(entry.name))
        .map((entry) => ({ path: `${folder}/${entry.name}`, from: join(root, folder, entry.name) }))
        .toSorted((a, b) => (a.path < b.path ? -1 : 1))
    const commands = ['postgres', 'initdb', 'pg_ctl', 'pg_isready', 'psql']
    const modules = /^(plpgsql|dict_snowball|libpqwalreceiver)\.so$/
    const data = [
      ...files(share),
      ...files(`${share}/timezonesets`),
      ...files(`${share}/tsearch_data`),
      ...files(`${share}/extension`, (file) => file.startsWith('plpgsql')),
    ]
    return [
      ...users('postgres:x:70:70:postgres:/var/lib/postgresql:/bin/sh'),
      ...(await programs([
        ...files(`${home}/bin`, (file) => commands.includes(file)),
        ...files(`${home}/lib`, (file) => modules.test(file)),
      ])),
      ...data.map(({ path, from }) => copy(path, from, 0o644)),
      ...commands.map((name) => link(`usr/local/bin/${name}`, `/${home}/bin/${name}`)),
      folder('usr/share/zoneinfo', 0o755), // without zones but UTC, and without a complaint
      copy('usr/local/bin/docker-entrypoint.sh', ownFile('postgres-entrypoint')),
    ]
  },
}

async function busyboxLayer(): Promise<readonly Entry[]> {
  const busybox = await findBusybox()
  const own = new Set(['busybox', 'sleep'])
  const applets = (await must([busybox, '--list'])).trim().split('\n')
  return [
    copy('bin/busybox', busybox),
    ...applets.filter((applet) => !own.has(applet)).map((applet) => link(`bin/${applet}`, 'busybox')),
    ...['pause', 'sleep'].map((script) => copy(`bin/${script}`, ownFile(script))),
    ...['sbin', 'usr/bin', 'usr/sbin'].map((alias) => link(alias, '/bin')),
    ...users(),
    folder('root', 0o700),
    folder('tmp', 0o1777),
    folder('var', 0o755),
    folder('srv', 0o755),
  ]
}

function users(...more: readonly string[]): readonly Entry[] {
  const lines = ['root:x:0:0:root:/root:/bin/sh', 'nobody:x:65534:65534:nobody:/:/bin/false', ...more]
  const groups = [
    'root:x:0:',
    'nogroup:x:65534:',
    ...more.map((line) => `${line.split(':')[0]}:x:${line.split(':')[3]}:`),
  ]
  return [text('etc/passwd', `${lines.join('\n')}\n`), text('etc/group', `${groups.join('\n')}\n`)]
}

/** Programs with all the libraries that they load. */
async function programs(all: readonly Program[]): Promise<readonly Entry[]> {
  const libraries = await librariesOf(all.map(({ from }) => from))
  return [...all, ...libraries].map(({ path, from }) => copy(path, from))
}

const ownFile = (name: string): string => join(projectRoot, 'lab/images', name)
const copy = (path: string, from: string, mode = 0o755): Entry => ({ kind: 'copy', path, from, mode })
const text = (path: string, content: string): Entry => ({ kind: 'text', path, text: content, mode: 0o644 })
const link = (path: string, to: string): Entry => ({ kind: 'link', path, to })
const folder = (path: string, mode: number): Entry => ({ kind: 'folder', path, mode })
