/**
 * Images without a registry, from what the machine has: see lab/image-layers.ts. The archive is written in the form of
 * `docker save`, without an engine and the same byte for byte, so that an image has one id on every engine and a second
 * run finds it ready.
 *
 * The set `base`:
 * - `busybox:latest`, `alpine:latest`: busybox; without a command it waits for SIGTERM.
 * - `hello:1`, `hello:2`: an HTTP server on port 8080 (PORT); `healthy` in it is a health command.
 * - `hello:broken`: the same, never healthy.
 *
 * The set `voting-app` is `base` and what compose-examples/voting-app/docker-stack.yml wants:
 * - `voting-vote`, `voting-result`, `voting-worker`, each as `:1`, `:2` and `:broken`, which is never healthy.
 * - `redis:alpine`, `postgres:15-alpine`: the real programs, with entry points that do as those of the official images.
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
import { type Entry, type LayerName, layers } from './image-layers.ts'
import { projectRoot } from './layout.ts'
import { must } from './run.ts'

export type ImageSet = 'base' | 'voting-app'

interface Image {
  readonly tags: readonly string[]
  readonly layers: readonly LayerName[]
  readonly command: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly env?: readonly string[]
  readonly port?: number
  readonly user?: string
  readonly folder?: string
  readonly volume?: string
  readonly stopSignal?: string
}

const VERSIONS = ['1', '2', 'broken']
const versionEnv = (version: string): readonly string[] => [
  `VERSION=${version}`,
  ...(version === 'broken' ? ['UNHEALTHY=1'] : []),
]

const BASE: readonly Image[] = [
  { tags: ['busybox:latest', 'alpine:latest'], layers: ['busybox'], command: ['pause'] },
  ...VERSIONS.map(
    (version): Image => ({
      tags: [`hello:${version}`],
      layers: ['busybox', 'node', 'hello'],
      command: ['node', '/srv/hello.cjs'],
      env: versionEnv(version),
      port: 8080,
    }),
  ),
]

const VOTING_APP: readonly Image[] = [
  ...['vote', 'result', 'worker'].flatMap((program) =>
    VERSIONS.map(
      (version): Image => ({
        tags: [`voting-${program}:${version}`],
        layers: ['busybox', 'node', 'voting'],
        command: ['node', `${program}.mjs`],
        env: versionEnv(version),
        user: 'node',
        folder: '/app',
        ...(program !== 'worker' && { port: 80 }),
      }),
    ),
  ),
  {
    tags: ['redis:alpine'],
    layers: ['busybox', 'redis'],
    entrypoint: ['docker-entrypoint.sh'],
    command: ['redis-server'],
    port: 6379,
    folder: '/data',
    volume: '/data',
  },
  {
    tags: ['postgres:15-alpine'],
    layers: ['busybox', 'postgres'],
    entrypoint: ['docker-entrypoint.sh'],
    command: ['postgres'],
    env: ['PGDATA=/var/lib/postgresql/data'],
    port: 5432,
    volume: '/var/lib/postgresql/data',
    stopSignal: 'SIGINT', // ends it without waiting for its clients
  },
]

const SETS: Readonly<Record<ImageSet, readonly Image[]>> = { base: BASE, 'voting-app': [...BASE, ...VOTING_APP] }

export const isImageSet = (word: string): word is ImageSet => word in SETS

/** Every tag that `buildImages` brings. */
export const tagsOf = (set: ImageSet): readonly string[] => SETS[set].flatMap((image) => image.tags)

const FORMAT = 2
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const EPOCH = '1970-01-01T00:00:00Z'

type Trees = ReadonlyMap<LayerName, readonly Entry[]>

/** The path of an archive for `docker load`. Built once; named after the content of all that goes into it. */
export async function buildImages(log: (line: string) => void = () => {}, set: ImageSet = 'base'): Promise<string> {
  const cache = join(projectRoot, '.build/lab-images')
  const images = SETS[set]
  const trees = new Map<LayerName, readonly Entry[]>()
  for (const layer of images.flatMap((image) => image.layers)) {
    if (!trees.has(layer)) trees.set(layer, await layers[layer]())
  }
  const archive = join(cache, `${set}-${await hashOf(images, trees)}.tar`)
  if (existsSync(archive)) return archive

  log(`building the images of ${set} from what this machine has`)
  mkdirSync(cache, { recursive: true })
  const work = `${archive}.${process.pid}`
  try {
    await buildArchive(images, trees, work)
    renameSync(join(work, 'archive.tar'), archive)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  for (const old of readdirSync(cache)) {
    const named = new RegExp(`^${set}-[0-9a-f]{16}\\.tar$`).test(old)
    if (named && join(cache, old) !== archive) rmSync(join(cache, old), { force: true })
  }
  return archive
}

async function hashOf(images: readonly Image[], trees: Trees): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([FORMAT, process.arch, images, [...trees]]))
  for (const entry of [...trees.values()].flat()) {
    if (entry.kind !== 'copy') continue
    for await (const chunk of createReadStream(entry.from, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  }
  return hash.digest('hex').slice(0, 16)
}

async function buildArchive(images: readonly Image[], trees: Trees, work: string): Promise<void> {
  const out = join(work, 'archive')
  const diffIds = new Map<LayerName, string>()
  for (const [layer, entries] of trees) {
    const tree = join(work, 'trees', layer)
    for (const entry of entries) place(entry, tree)
    mkdirSync(join(out, layer), { recursive: true })
    const file = join(out, layer, 'layer.tar')
    await packTree(tree, file)
    diffIds.set(layer, `sha256:${createHash('sha256').update(readFileSync(file)).digest('hex')}`)
  }
  const manifest = images.map((image) => {
    const config = JSON.stringify(imageConfig(image, diffIds))
    const name = `${createHash('sha256').update(config).digest('hex')}.json`
    writeFileSync(join(out, name), config)
    return { Config: name, RepoTags: image.tags, Layers: image.layers.map((layer) => `${layer}/layer.tar`) }
  })
  writeFileSync(join(out, 'manifest.json'), JSON.stringify(manifest))
  await packTree(out, join(work, 'archive.tar'))
}

function imageConfig(image: Image, diffIds: ReadonlyMap<LayerName, string>): object {
  return {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    created: EPOCH,
    config: {
      Env: [`PATH=${PATH}`, ...(image.env ?? [])],
      Cmd: image.command,
      ...(image.entrypoint && { Entrypoint: image.entrypoint }),
      ...(image.port && { ExposedPorts: { [`${image.port}/tcp`]: {} } }),
      ...(image.user && { User: image.user }),
      ...(image.folder && { WorkingDir: image.folder }),
      ...(image.volume && { Volumes: { [image.volume]: {} } }),
      ...(image.stopSignal && { StopSignal: image.stopSignal }),
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

function place(entry: Entry, tree: string): void {
  const to = join(tree, entry.path)
  mkdirSync(dirname(to), { recursive: true })
  switch (entry.kind) {
    case 'copy':
      copyFileSync(entry.from, to)
      break
    case 'text':
      writeFileSync(to, entry.text)
      break
    case 'link':
      symlinkSync(entry.to, to)
      return
    case 'folder':
      mkdirSync(to, { recursive: true })
      break
  }
  chmodSync(to, entry.mode)
}
