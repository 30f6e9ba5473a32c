// Several compose files as one: merged by the Specification's rules, extended, included, and cut down to profiles.

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are the compose files' variables

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import { loadCompose } from '../../src/cli/compose/load.ts'
import { ComposeError } from '../../src/cli/compose/node.ts'
import { writeConfig } from '../../src/cli/compose/write-config.ts'

const folder = mkdtempSync(join(tmpdir(), 'compose-files-'))
t.teardown(() => rmSync(folder, { recursive: true }))
let count = 0

interface Options {
  readonly environment?: Readonly<Record<string, string>>
  readonly profiles?: readonly string[]
  /** The files given with -c; only the first, where it is not said. */
  readonly given?: readonly string[]
}

/** Writes `files` (by path) and loads them; returns the model of one service, or of all. */
function load(files: Readonly<Record<string, string>>, options: Options = {}) {
  const root = join(folder, String(count++))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  const given = options.given ?? [Object.keys(files)[0]!]
  const { model, warnings } = loadCompose(
    given.map((name) => ({ name, text: files[name]!, path: join(root, name) })),
    {
      directory: dirname(join(root, given[0]!)),
      environment: options.environment ?? {},
      envFiles: [],
      profiles: options.profiles ?? [],
    },
  )
  return { model, warnings, root, web: model.services.get('web')! }
}

const merged = (...texts: readonly string[]) => {
  const files = Object.fromEntries(texts.map((text, i) => [`${i}.yml`, `services:\n  web: ${text}\n`]))
  return load(files, { given: Object.keys(files) }).web
}

function refusal(files: Readonly<Record<string, string>>, options: Options = {}): string {
  try {
    load(files, options)
    return ''
  } catch (error) {
    if (!(error instanceof ComposeError)) throw error
    return error.message.replaceAll(new RegExp(`${folder}/\\d+/`, 'g'), '/')
  }
}

t.test('mappings merge, lists grow, single values are replaced', async (t) => {
  const web = merged(
    '{image: a, environment: [A=1, B=1], labels: {x: "1"}, cap_add: [A], dns: 1.1.1.1, deploy: {replicas: 2, labels: [l=1]}}',
    '{image: b, environment: {B: 2, C: 3}, labels: [y=2], cap_add: [B, A], dns: [8.8.8.8], deploy: {labels: {l: 2}}}',
  )
  t.equal(web.image, 'b')
  t.same(
    [...(web.environment ?? [])],
    [
      ['A', '1'],
      ['B', '2'],
      ['C', '3'],
    ],
  )
  t.same(
    [...(web.labels ?? [])],
    [
      ['x', '1'],
      ['y', '2'],
    ],
  )
  t.same(web.cap_add, ['A', 'B'])
  t.same(web.dns, ['1.1.1.1', '8.8.8.8'])
  t.equal(web.deploy?.replicas, 2)
  t.same([...(web.deploy?.labels ?? [])], [['l', '2']])
})

t.test('what is false, 0 or empty replaces too, and what says nothing does not', async (t) => {
  const web = merged(
    '{image: a, tty: true, command: [a], entrypoint: x y, deploy: {replicas: 3}, sysctls: {a: 1}, healthcheck: {test: a}}',
    '{tty: false, cap_add: [], entrypoint: z, deploy: {replicas: 0}, command: , healthcheck: {disable: true}}',
  )
  t.match(web, { tty: false, command: ['a'], entrypoint: ['z'], image: 'a' })
  t.equal(web.deploy?.replicas, 0)
  t.same(web.healthcheck, { disable: true })
})

t.test('ports are one where they are published at one, volumes and files where their target is one', async (t) => {
  const web = merged(
    '{image: a, ports: ["80:80", "53:53/udp", "53:53", "9"], volumes: ["aa:/x", "bb:/y"], secrets: [s, t], logging: {driver: a, options: {x: "1"}}}',
    '{ports: ["80:8080"], volumes: [{type: bind, source: /c, target: /x, read_only: true}], secrets: [{source: u, target: s}], logging: {driver: b}}',
  )
  t.same(
    web.ports?.map(({ published, target, protocol }) => `${published ?? ''}:${target}/${protocol}`),
    [':9/tcp', '53:53/tcp', '53:53/udp', '80:8080/tcp'],
  )
  t.same(
    web.volumes?.map(({ source, target }) => `${source}:${target}`),
    ['/c:/x', 'bb:/y'],
  )
  t.same(
    web.secrets?.map(({ source }) => source),
    ['u', 't'],
  )
  t.same(web.logging, { driver: 'b' })
})

t.test('!reset takes away, !override replaces; in the first file they say nothing', async (t) => {
  const base =
    '{image: a, ports: ["80:80"], environment: {A: 1, B: 1}, command: c, cap_add: [A], deploy: {replicas: 2}}'
  const web = merged(
    base,
    '{ports: !reset [], environment: {A: !reset null}, cap_add: !override [B], deploy: !override {mode: global}, command: !reset }',
  )
  t.equal(web.ports, undefined)
  t.same([...(web.environment ?? [])], [['B', '1']])
  t.same(web.cap_add, ['B'])
  t.same(web.deploy, { mode: 'global' })
  t.equal(web.command, undefined)
  t.same(merged('{image: a, cap_add: !override [B], ports: !reset [x]}').cap_add, ['B'])
  t.same(merged(base, '{ports: !reset null}', '{ports: ["81:81"]}').ports?.length, 1)
})

t.test('a service extends one of its file, of another file, and of one that extends in turn', async (t) => {
  const { web, root } = load({
    'app/stack.yml': `services:
  web:
    extends: {file: ../base/base.yml, service: php}
    environment: {B: web}
    volumes: ["./own:/own"]
  other: {extends: web, hostname: other}
`,
    'base/base.yml': `services:
  common: {image: common, environment: {A: common, B: common}, cap_add: [A]}
  php:
    extends: {service: common}
    image: php
    env_file: php.env
    volumes: ["./php:/php"]
    cap_add: [B]
`,
    'base/php.env': 'FROM_FILE=yes\nB=file\n',
  })
  t.match(web, { image: 'php', cap_add: ['A', 'B'] })
  t.same(Object.fromEntries(web.environment!), { FROM_FILE: 'yes', A: 'common', B: 'web' })
  t.same(
    web.volumes?.map(({ source }) => source),
    [`${root}/app/own`, `${root}/base/php`],
    'paths start from the file that has them',
  )
})

t.test('what extends may reset, and what a later file extends may stand in an earlier one', async (t) => {
  const files = {
    'a.yml': 'services: {base: {image: a, ports: ["80:80"], command: c}, web: {extends: base, ports: !reset []}}\n',
    'b.yml': 'services: {late: {extends: base, command: !override [d]}}\n',
  }
  const { model } = load(files, { given: ['a.yml', 'b.yml'] })
  t.match(model.services.get('web'), { image: 'a', ports: undefined, command: ['c'] })
  t.match(model.services.get('late'), { image: 'a', command: ['d'] })
})

t.test('what is wrong with extends names its place', async (t) => {
  const cycle = 'services:\n  a: {extends: b}\n  b:\n    extends: {service: c}\n  c: {extends: a}\n'
  t.equal(
    refusal({ 'a.yml': cycle }),
    'a.yml:2:16: circular reference with extends: a → b → c → a (a.yml:2:16, a.yml:4:14, a.yml:5:16)',
  )
  t.match(
    refusal({
      'a.yml': 'services: {web: {extends: {file: b.yml, service: web}}}',
      'b.yml': 'services: {web: {extends: {file: a.yml, service: web}}}',
    }),
    /^a\.yml:1:27: circular reference with extends: web → web → web \(a\.yml:1:27, b\.yml:1:27\)$/,
  )
  t.equal(
    refusal({ 'a.yml': 'services: {webb: {image: x}, b: {extends: {service: web}}}' }),
    'a.yml:1:53: cannot extend service "b": service "web" not found in a.yml (did you mean webb?)',
  )
  t.equal(
    refusal({ 'a.yml': 'services: {b: {extends: {service: web, file: none.yml}}}' }),
    'a.yml:1:46: open /none.yml: no such file or directory',
  )
  t.match(
    refusal({ 'a.yml': 'services: {b: {extends: {service: b, file: b.yml}}}', 'b.yml': 'services: {b: {imag: x}}' }),
    /^b\.yml:1:16: services\.b Additional property imag is not allowed \(did you mean image\?\)$/,
  )
  t.match(refusal({ 'a.yml': 'services: {b: {extends: {file: a.yml}}}' }), /services\.b\.extends service is required/)
  t.match(
    refusal({ 'a.yml': 'services: {b: {extends: {service: a, file: "https://x/y.yml"}}}' }),
    /is not on this machine: fetch it, and name the file$/,
  )
})

t.test('a file is included with its own folder, variables and services', async (t) => {
  const { model, root } = load(
    {
      'stack.yml': `include:
  - db/db.yml
  - path: [cache/a.yml, cache/b.yml]
    project_directory: cache/data
    env_file: cache/cache.env
services:
  web: {image: "web:\${TAG:-none}", depends_on: [db, cache]}
`,
      'db/db.yml': 'services: {db: {image: "db:${TAG}", volumes: ["./data:/data"]}}\nnetworks: {back: {}}\n',
      'db/.env': 'TAG=own\n',
      'cache/a.yml': 'services: {cache: {image: "cache:${TAG}${OUTER}", volumes: ["./x:/x"]}}\n',
      'cache/b.yml': 'services: {cache: {command: b}}\n',
      'cache/cache.env': 'TAG=cached\nOUTER=not this\n',
    },
    { environment: { OUTER: 'outer' } },
  )
  t.equal(model.services.get('web')?.image, 'web:none')
  t.equal(model.services.get('db')?.image, 'db:own')
  t.equal(model.services.get('db')?.volumes?.[0]?.source, `${root}/db/data`)
  t.match(model.services.get('cache'), { image: 'cache:cachedouter', command: ['b'] })
  t.equal(model.services.get('cache')?.volumes?.[0]?.source, `${root}/cache/data/x`)
  t.ok(model.networks.has('back'))
})

t.test('what is included may not say otherwise, nor include what includes it; a later file may', async (t) => {
  t.equal(
    refusal({ 'a.yml': 'include: [b.yml]\nservices: {db: {image: a}}\n', 'b.yml': 'services: {db: {image: b}}\n' }),
    'a.yml:2:12: services.db conflicts with that of b.yml:1:12, which is included at a.yml:1:11',
  )
  t.equal(
    refusal({ 'a.yml': 'include: [b.yml]\nservices: {db: {image: a}}\n', 'b.yml': 'services: {db: {image: a}}\n' }),
    '',
    'the same is no conflict',
  )
  t.equal(
    refusal({ 'a.yml': 'include: [b.yml]\n', 'b.yml': 'include:\n  - a.yml\n' }),
    'b.yml:2:5: include cycle detected: a.yml → b.yml → a.yml',
  )
  t.equal(refusal({ 'a.yml': 'include: [none.yml]\n' }), 'a.yml:1:11: open /none.yml: no such file or directory')
  t.match(refusal({ 'a.yml': 'include: ["oci://x"]\n' }), /^a\.yml:1:11: "oci:\/\/x" is not on this machine/)
  t.match(refusal({ 'a.yml': 'include: [{env_file: x}]\n' }), /^a\.yml:1:11: include: no path is given$/)
  t.match(
    refusal({ 'a.yml': 'include: [{path: b.yml, env_file: none.env}]\n', 'b.yml': 'services: {}\n' }),
    /open \/none\.env: no such file or directory$/,
  )
  const { model } = load(
    { 'a.yml': 'include: [b.yml]\n', 'b.yml': 'services: {db: {image: b}}\n', 'c.yml': 'services: {db: {image: c}}\n' },
    { given: ['a.yml', 'c.yml'] },
  )
  t.equal(model.services.get('db')?.image, 'c')
})

t.test('files that include each other without end are not read without end', async (t) => {
  const files: Record<string, string> = { 'last.yml': 'services: {}\n' }
  for (let i = 0; i < 12; i++) {
    files[`${i}.yml`] = `include: [${i === 11 ? 'last.yml, last.yml' : `${i + 1}.yml, ./${i + 1}.yml`}]\n`
  }
  t.throws(() => load(files, { given: ['0.yml'] }), { message: /more than 200 files are included or extended$/ })
})

t.test('services with profiles are there with one of them', async (t) => {
  const file = {
    'a.yml':
      'services: {web: {image: x}, tool: {image: x, profiles: [debug, dev]}, job: {image: x, profiles: [batch], depends_on: [web]}}',
  }
  const names = (options: Options = {}) => [...load(file, options).model.services.keys()]
  t.same(names(), ['web'])
  t.same(names({ profiles: ['dev'] }), ['web', 'tool'])
  t.same(names({ environment: { COMPOSE_PROFILES: 'batch, debug' } }), ['web', 'tool', 'job'])
  t.same(names({ profiles: ['*'] }), ['web', 'tool', 'job'])
})

t.test('a service needs what is there', async (t) => {
  const file = (needed: string, more = '') => ({ 'a.yml': `services: {web: {image: x, depends_on: ${needed}}${more}}` })
  t.match(refusal(file('[dbb]', ', db: {image: x}')), /^a\.yml:1:41: service "web" depends on undefined service "dbb"$/)
  t.match(
    refusal(file('[cahce]', ', cache: {image: x}')),
    /depends on undefined service "cahce" \(did you mean cache\?\)$/,
  )
  t.equal(
    refusal(file('[db]', ', db: {image: x, profiles: [data]}')),
    'a.yml:1:41: service "web" depends on "db", which no active profile has: enable it with --profile "data"',
  )
  t.equal(refusal(file('{db: {condition: service_healthy, required: false}}')), '')
  t.equal(
    refusal(
      file('[b]', ', b: {image: x, depends_on: [c]}, c: {image: x, depends_on: {web: {condition: service_started}}}'),
    ),
    'a.yml:1:41: dependency cycle detected: b → c → web → b',
  )
  t.match(refusal(file('{db: {condition: ready}}')), /must be one of the following: "service_started"/)
})

t.test('both forms of env_file; the long one reads as Compose does', async (t) => {
  const files = {
    'a.yml': `services:
  plain: {image: x, env_file: [one.env]}
  long: {image: x, env_file: [{path: one.env}, {path: none.env, required: false}]}
  raw: {image: x, env_file: [{path: one.env, format: raw}]}
`,
    'one.env': 'A="quoted $B"\nB=b\n',
  }
  const { model } = load(files, { environment: { B: 'outer' } })
  const environment = (name: string) => model.services.get(name)?.environment?.get('A')
  t.equal(environment('plain'), '"quoted $B"')
  t.equal(environment('long'), 'quoted outer')
  t.equal(environment('raw'), '"quoted $B"')
  t.match(
    refusal({ 'a.yml': 'services: {a: {image: x, env_file: [{path: b.env}]}}' }),
    /1:37: open \/b\.env: no such file/,
  )
})

t.test('secrets and configs by variable and content', async (t) => {
  const file = {
    'a.yml':
      'services: {}\nsecrets: {s: {environment: TOKEN}}\nconfigs: {c: {content: "a $TOKEN"}, e: {environment: TOKEN}}\n',
  }
  const { model } = load(file, { environment: { TOKEN: 'abc' } })
  t.equal(model.secrets.get('s')?.value, 'abc')
  t.equal(model.configs.get('c')?.value, 'a abc')
  t.equal(model.configs.get('e')?.value, 'abc')
  t.equal(refusal(file), 'a.yml:2:28: secret s: the environment variable "TOKEN" is not set')
  t.match(
    refusal({ 'a.yml': 'services: {}\nconfigs: {c: {file: a, content: b}}\n' }),
    /config c: config\.file and config\.content conflict/,
  )
  t.match(
    refusal({ 'a.yml': 'services: {}\nconfigs: {c: {name: a}}\n' }),
    /config c: no content: it needs file, environment, content/,
  )
})

t.test('what is printed says the same when it is read again', async (t) => {
  const { model } = load(
    {
      'a.yml': `services:
  web:
    image: x
    depends_on: {db: {condition: service_healthy, required: false}, cache: {condition: service_started}}
    env_file: [{path: one.env, required: false}]
    devices: [{source: /dev/a, target: /dev/b, permissions: r}, /dev/c]
    gpus: all
    blkio_config: {weight: 300, device_read_bps: [{path: /dev/sda, rate: 1mb}]}
    tmpfs: "/run:size=1m"
    volumes: [{type: tmpfs, target: /t, tmpfs: {mode: "0755", size: 2m}}, {type: bind, source: /a, target: /b, bind: {create_host_path: true}}]
    ports: [{target: 80, published: "8000-8002"}]
    profiles: [a]
    mem_limit: 64m
    extra_hosts: {a: [1.1.1.1, "::1"]}
    ulimits: {nofile: "5"}
  cache: {image: x}
  db: {image: x}
networks:
  n: {ipam: {config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1, aux_addresses: {a: 10.0.0.5}}]}, enable_ipv6: true}
configs: {c: {content: "text"}}
`,
    },
    { profiles: ['a'] },
  )
  const printed = writeConfig(model)
  const again = load({ 'a.yml': printed }, { profiles: ['a'] })
  t.equal(writeConfig(again.model), printed)
  t.match(again.web, { mem_limit: 64 * 2 ** 20, devices: ['/dev/a:/dev/b:r', '/dev/c'] })
  t.same(
    again.web.ports?.map(({ published, target }) => [published, target]),
    [
      [8000, 80],
      [8001, 81],
      [8002, 82],
    ],
  )
})
