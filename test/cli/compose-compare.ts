// How what docker and swarmctl send for one stack file is compared, and where they mean to differ.

import { withoutCheckout } from './compose-cases.ts'
import type { Recorded } from './compose-recorder.ts'

export interface Difference {
  /** Why, by what of the printed file or of an object differs: the beginnings of paths (`st_web.Labels`). */
  readonly where?: Readonly<Record<string, string>>
  readonly config?: (text: string) => string
  /** We refuse what docker takes. */
  readonly refuses?: RegExp
  readonly reason?: string | undefined
}

const REPLACED = 'the Specification replaces by what is empty, 0 or false too; docker keeps what was there'
const MERGED = 'the Specification merges named objects; docker takes those of the later file'
const TARGETS = 'the Specification takes files of another target for other files, docker those of one source for one'
const NO_OOM = 'docker accepts oom_score_adj and loses it'
const TMPFS = 'docker leaves out tmpfs'
const TESTS = 'the Specification replaces a test, docker adds to it'
const ALIASES = 'the Specification adds aliases, docker replaces them'

const HOST_IP = 'docker leaves out on which addresses a port is published, and has it open on all'
const withoutHostIps = (text: string) => text.replace(/^ +host_ip: .*\n/gm, '')

const MERGES = {
  'services.web.command': REPLACED,
  'services.web.entrypoint': REPLACED,
  'services.web.stop_grace_period': REPLACED,
  'services.web.stop_signal': REPLACED,
  'services.web.tty': REPLACED,
  'services.web.init': REPLACED,
  'services.web.environment': REPLACED,
  'services.web.healthcheck': TESTS,
  'services.web.networks': ALIASES,
  'services.web.secrets': TARGETS,
  'services.web.configs': TARGETS,
  'services.web.cap_add': 'the Specification adds no item twice',
  'services.web.ports': 'the Specification keeps ports of different protocols apart',
  'services.web.deploy': REPLACED,
  'services.web.oom_score_adj': NO_OOM,
  'services.web.credential_spec': REPLACED,
  networks: MERGED,
  volumes: MERGED,
  secrets: MERGED,
  configs: MERGED,
  st_front: MERGED,
  st_one: MERGED,
  st_plain: MERGED,
  'st_web.TaskTemplate.ContainerSpec': REPLACED,
  'st_web.TaskTemplate.Networks': ALIASES,
  'st_web.TaskTemplate.Placement': 'the Specification adds no item twice',
  'st_web.UpdateConfig': REPLACED,
}

/** Where swarmctl means to differ, and why. */
export const DIFFERENCES: Readonly<Record<string, Difference>> = {
  interpolation: {
    reason: 'docker takes $NAME-word without braces for a default, and loses the word',
    config: (text) => text.replace('ahostbhost-c', 'ahostbhost'),
    where: { 'st_app.TaskTemplate.ContainerSpec.Env': 'docker loses a word' },
  },
  process: {
    config: (text) => text.replace(/^ {4}oom_score_adj: .*\n/m, ''),
    where: { 'st_lists.TaskTemplate.ContainerSpec.OomScoreAdj': NO_OOM },
  },
  'full-example': {
    reason: 'docker tries to read a folder, when it deploys',
    refuses: /full-example.yml:444:3: secret secret4: no content: it needs file, environment, driver or external: true/,
  },
  ignored: {
    where: { 'st_app.TaskTemplate.ContainerSpec.Mounts': TMPFS, 'st_db.TaskTemplate.ContainerSpec.Mounts': TMPFS },
  },
  'full-deployable': { where: { 'st_foo.TaskTemplate.ContainerSpec.Mounts': TMPFS }, config: withoutHostIps },
  ports: { reason: HOST_IP, config: withoutHostIps },
  volumes: { where: { 'st_app.TaskTemplate.ContainerSpec.Mounts': 'docker leaves out the mode of a tmpfs' } },
  'merge-base+merge-over': { where: MERGES },
  'merge-base+merge-over+merge-third': { where: MERGES },
}

/** Requests as they can be compared: Go writes nil as null, and some fields that are not set as 0, false or ''. */
export function byName(requests: readonly Recorded[]): unknown {
  return Object.fromEntries(
    requests.map(({ call, query, body }) => {
      const fields = strip(body, call.includes('network')) as Record<string, unknown>
      return [String(body.Name), { ...fields, call, query }]
    }),
  )
}

const GO_ZEROES = new Set(['ForceUpdate', 'Soft', 'Hard', 'NoNewPrivileges', 'Order', 'Config', 'File', 'Registry'])

function strip(value: unknown, isNetwork: boolean): unknown {
  if (typeof value === 'string') return withoutCheckout(value)
  if (Array.isArray(value)) return value.map((item) => strip(item, isNetwork))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, item]) => {
        // what docker leaves out is a label of ours: compose-container.test.ts says which
        if (item === null || key.startsWith('io.swarmctl.')) return false
        return !((isNetwork && (item === false || item === '')) || (!item && GO_ZEROES.has(key)))
      })
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => {
        const inner = strip(item, isNetwork)
        // docker's order of ports without a published one is any
        return [key, key === 'Ports' && Array.isArray(inner) ? inner.map((port) => JSON.stringify(port)).sort() : inner]
      }),
  )
}

/** Where `a` and `b` differ and no reason is given. */
export function unexplained(a: unknown, b: unknown, reasons: Readonly<Record<string, string>>): readonly unknown[] {
  return differences(a, b, '').filter(
    ({ path }) => !Object.keys(reasons).some((prefix) => path === prefix || path.startsWith(`${prefix}.`)),
  )
}

function differences(
  ours: unknown,
  dockers: unknown,
  path: string,
): readonly { path: string; ours: unknown; dockers: unknown }[] {
  const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
  if (isObject(ours) && isObject(dockers)) {
    const keys = new Set([...Object.keys(ours), ...Object.keys(dockers)])
    return [...keys].flatMap((key) => differences(ours[key], dockers[key], path === '' ? key : `${path}.${key}`))
  }
  return JSON.stringify(ours) === JSON.stringify(dockers) ? [] : [{ path, ours, dockers }]
}
