/**
 * Images without a registry, from what the machine has: a static busybox, and its own node binary with the libraries
 * that ldd names. The archive is written in the form of `docker save`, without an engine and the same byte for byte, so
 * that an image has one id on every engine and a second run finds it ready.
 *
 * - `busybox:latest`, `alpine:latest`: busybox; without a command it waits for SIGTERM.
 * - `hello:1`, `hello:2`: an HTTP server on port 8080 (PORT); `healthy` in it is a health command.
 * - `hello:broken`: the same, never healthy.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { projectRoot } from './layout.ts'
import { findStaticBusybox } from './preflight.ts'
import { must } from './run.ts'

interface Image {
  readonly tags: readonly string[]
  readonly layers: readonly string[]
  readonly command: readonly string[]
  readonly env?: readonly string[]
  readonly port?: number
}

const IMAGES: readonly Image[] = [
  { tags: ['busybox:latest', 'alpine:latest'], layers: ['busybox'], command: ['pause'] },
  ...['1', '2', 'broken'].map((version) => ({
    tags: [`hello:${version}`],
    layers: ['busybox', 'node', 'hello'],
    command: ['node', '/srv/hello.cjs'],
    env: [`VERSION=${version}`, ...(version === 'broken' ? ['UNHEALTHY=1'] : [])],
    port: 8080,
  })),
]

/** Every tag that `buildImages` brings. */
export const imageTags: readonly string[] = IMAGES.flatMap((image) => image.tags)

const FORMAT = 1
const SCRIPTS = ['hello.cjs', 'healthy', 'pause', 'sleep']
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const EPOCH = '1970-01-01T00:00:00Z'

/** The path of an archive for `docker load`. Built once; named after the content of all that goes into it. */
export async function buildImages(log: (line: string) => void = () => {}): Promise<string> {
  const cache = join(projectRoot, '.build/lab-images')
  const sources = await findSources()
  const hash = createHash('sha256').update(`${FORMAT} ${JSON.stringify(IMAGES)} ${process.arch}`)
  for (const file of [sources.busybox, sources.node, ...sources.libraries, ...SCRIPTS.map(scriptPath)]) {
    hash.update(file)
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  }
  const archive = join(cache, `${hash.digest('hex').slice(0, 16)}.tar`)
  if (existsSync(archive)) return archive

  log(`building images from ${sources.busybox} and ${sources.node}`)
  mkdirSync(cache, { recursive: true })
  const work = `${archive}.${process.pid}`
  try {
    await buildArchive(sources, work)
    renameSync(join(work, 'archive.tar'), archive)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  for (const old of readdirSync(cache)) {
    if (/^[0-9a-f]{16}\.tar$/.test(old) && join(cache, old) !== archive) rmSync(join(cache, old))
  }
  return archive
}

interface Sources {
  readonly busybox: string
  readonly node: string
  readonly libraries: readonly string[]
}

async function findSources(): Promise<Sources> {
  const busybox = await findStaticBusybox()
  if (!busybox) throw new Error('no statically linked busybox: apt-get install busybox-static')
  const listed = await must(['ldd', process.execPath])
  const libraries = [...listed.matchAll(/(?:=>\s+|^\s+)(\/\S+)/gm)].map((match) => match[1] ?? '')
  return { busybox, node: process.execPath, libraries: [...new Set(libraries)].toSorted() }
}

const scriptPath = (name: string): string => join(projectRoot, 'lab/images', name)

async function buildArchive(sources: Sources, work: string): Promise<void> {
  const trees = join(work, 'trees')
  await layBusybox(sources, join(trees, 'busybox'))
  layNode(sources, join(trees, 'node'))
  place(scriptPath('hello.cjs'), join(trees, 'hello/srv/hello.cjs'), 0o644)
  place(scriptPath('healthy'), join(trees, 'hello/bin/healthy'), 0o755)

  const out = join(work, 'archive')
  const diffIds = new Map<string, string>()
  for (const layer of ['busybox', 'node', 'hello']) {
    mkdirSync(join(out, layer), { recursive: true })
    const file = join(out, layer, 'layer.tar')
    await packTree(join(trees, layer), file)
    diffIds.set(layer, `sha256:${createHash('sha256').update(readFileSync(file)).digest('hex')}`)
  }
  const manifest = IMAGES.map((image) => {
    const config = JSON.stringify(imageConfig(image, diffIds))
    const name = `${createHash('sha256').update(config).digest('hex')}.json`
    writeFileSync(join(out, name), config)
    return { Config: name, RepoTags: image.tags, Layers: image.layers.map((layer) => `${layer}/layer.tar`) }
  })
  writeFileSync(join(out, 'manifest.json'), JSON.stringify(manifest))
  await packTree(out, join(work, 'archive.tar'))
}

function imageConfig(image: Image, diffIds: ReadonlyMap<string, string>): object {
  return {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    created: EPOCH,
    config: {
      Env: [`PATH=${PATH}`, ...(image.env ?? [])],
      Cmd: image.command,
      ...(image.port && { ExposedPorts: { [`${image.port}/tcp`]: {} } }),
    },
    rootfs: { type: 'layers', diff_ids: image.layers.map((layer) => diffIds.get(layer)) },
    history: image.layers.map((layer) => ({ created: EPOCH, created_by: `lab: ${layer}` })),
  }
}

/** The same tree gives the same bytes. */
async function packTree(dir: string, file: string): Promise<void> {
  const fixed = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu']
  await must(['tar', '-C', dir, ...fixed, '-cf', file, ...readdirSync(dir).toSorted()])
}

async function layBusybox(sources: Sources, tree: string): Promise<void> {
  place(sources.busybox, join(tree, 'bin/busybox'), 0o755)
  const own = new Set(['busybox', 'sleep'])
  for (const applet of (await must([sources.busybox, '--list'])).trim().split('\n')) {
    if (!own.has(applet)) symlinkSync('busybox', join(tree, 'bin', applet))
  }
  for (const script of ['pause', 'sleep']) place(scriptPath(script), join(tree, 'bin', script), 0o755)
  mkdirSync(join(tree, 'usr'))
  for (const alias of ['sbin', 'usr/bin', 'usr/sbin']) symlinkSync('/bin', join(tree, alias))
  mkdirSync(join(tree, 'etc'))
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n')
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
  for (const [dir, mode] of [
    ['root', 0o700],
    ['tmp', 0o1777],
    ['var', 0o755],
    ['srv', 0o755],
  ] as const) {
    mkdirSync(join(tree, dir))
    chmodSync(join(tree, dir), mode)
  }
}

function layNode(sources: Sources, tree: string): void {
  place(sources.node, join(tree, 'usr/local/bin/node'), 0o755)
  for (const library of sources.libraries) place(library, join(tree, library), 0o755)
}

function place(from: string, to: string, mode: number): void {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
  chmodSync(to, mode)
}
