// What swarmctl does beyond docker's loader: places, warnings, variables in full, and YAML that would do harm.

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are the compose files' variables

import t from 'tap'
import { loadCompose } from '../../src/cli/compose/load.ts'
import { ComposeError } from '../../src/cli/compose/node.ts'

function load(text: string, environment: Readonly<Record<string, string>> = {}, ...more: readonly string[]) {
  const files = [text, ...more].map((text, i) => ({ name: i === 0 ? 'a.yml' : `${i}.yml`, text }))
  return loadCompose(files, { directory: '/nonexistent', environment, envFiles: [] })
}

function refusal(text: string, environment: Readonly<Record<string, string>> = {}): string {
  try {
    load(text, environment)
    return ''
  } catch (error) {
    if (!(error instanceof ComposeError)) throw error
    return error.message
  }
}

t.test('the place is where the mistake stands, also behind an anchor and in another file', async (t) => {
  t.equal(
    refusal('services:\n  web:\n    image: nginx\n    foo: bar\n'),
    'a.yml:4:5: services.web Additional property foo is not allowed',
  )
  t.equal(
    refusal('x-base: &base\n  image: nginx\n  tty: 5\nservices:\n  a:\n    <<: *base\n  b: *base\n'),
    'a.yml:3:8: services.a.tty must be a boolean',
  )
  t.throws(() => load('services: {}', {}, 'services:\n  web: 5\n'), {
    message: '1.yml:2:8: services.web must be a mapping',
  })
  t.equal(
    refusal('services:\n  web: {image: x, ports: ["1:${P}"]}\n', { P: 'x' }),
    "a.yml:2:27: services.web.ports.0 Does not match format 'ports' (invalid containerPort: x)",
  )
  t.equal(refusal('services:\n\ta: b\n').replace(/yaml: .*/, 'yaml'), 'a.yml:2:1: yaml')
})

t.test('the deepest mistake is told, and among equals a wrong type', async (t) => {
  const both = 'services:\n  web:\n    image: 5\n    foo: 1\n    deploy: {replicas: many}\n'
  t.match(refusal(both), /services\.web\.deploy\.replicas must be a integer$/)
  t.match(refusal(both.replace('many', '1')), /services\.web\.image must be a string$/)
})

t.test('a slip of the pen gets a suggestion, a key of the Specification its reason', async (t) => {
  const service = (key: string) => refusal(`services: {web: {image: x, ${key}: 1}}`)
  t.match(service('enviroment'), /property enviroment is not allowed \(did you mean environment\?\)$/)
  t.match(service('working-dir'), /\(did you mean working_dir\?\)$/)
  t.match(service('enviornment'), /\(did you mean environment\?\)$/)
  t.match(refusal('sevices: {}'), /\(root\) Additional property sevices is not allowed \(did you mean services\?\)$/)
  t.match(refusal('services: {a: {image: x, deploy: {replica: 1}}}'), /\(did you mean replicas\?\)$/)
  t.match(service('post_start'), /is not allowed \(the engine runs no commands around a start or stop; let/)
  t.match(service('zzz'), /property zzz is not allowed$/)
})

t.test('variables nest, have alternatives, and are known to be unset', async (t) => {
  const hostname = (text: string, environment: Readonly<Record<string, string>> = {}) => {
    const { model, warnings } = load(`services: {web: {image: x, hostname: '${text}'}}`, environment)
    return [model.services.get('web')?.hostname, ...warnings]
  }
  t.same(hostname('${A:-${B:-c}d}'), ['cd'])
  t.same(hostname('${A:-${B:-c}d}', { B: 'b' }), ['bd'])
  t.same(hostname('${A:+yes ${B}}${A+set}', { A: '1', B: 'b' }), ['yes bset'])
  t.same(hostname('<${A:+yes}${A+set}>', { A: '' }), ['<set>'])
  t.same(hostname('$${A} $A$$', { A: 'a' }), ['${A} a$'])
  const unset = 'The "A" variable is not set. Defaulting to a blank string.'
  t.same(hostname('-$A-${A}-'), ['---', unset])
  t.same(hostname('${B:-x$A}', { B: 'b' }), ['b'], 'a word that is not used needs no variables')
  t.match(
    refusal('services: {web: {image: "${A:?set ${B}}"}}', { B: 'it' }),
    /"required variable A is missing a value: set it"/,
  )
  t.match(
    refusal('services: {web: {image: "${A:-${B}"}}'),
    /invalid interpolation format for services\.web\.image: "\$\{A:-\$\{B\}"/,
  )
})

t.test('what is left out is said', async (t) => {
  const { warnings } = load(`services:
  web:
    image: x
    build: .
    links: [db]
    container_name: fixed
    volumes: ["data:/data:z"]
    pull_refresh_after: 1h
    ports: ["127.0.0.1:80:80"]
    networks: {default: {priority: 1}}
  db: {image: x}
volumes:
  v: {external: {name: w}}
---
services: {}
`)
  t.same(warnings, [
    'Ignoring unsupported options: build, links\n',
    'Ignoring deprecated options:\n\ncontainer_name: Setting the container name is not supported.\n',
    'a.yml:8:5: ignoring services.web.pull_refresh_after: a node looks for a newer image when a task starts there',
    'a.yml:10:26: ignoring services.web.networks.default.priority: interfaces of tasks are made by the cluster',
    'a.yml: only the first of its 2 documents is read',
    'a.yml:7:15: ignoring option "z" of volume "data:/data:z"',
    'a.yml:13:17: volume v: volume.external.name is deprecated in favor of volume.name',
  ])
})

t.test('YAML that is wrong or would do harm', async (t) => {
  t.match(refusal('a: 1\na: 2\n'), /^a\.yml:2:1: yaml: mapping key "a" already defined at line 1$/)
  t.match(refusal('services: *none\n'), /yaml: unknown anchor 'none' referenced|Unresolved alias/)
  t.match(refusal('services: &s\n  web: *s\n'), /yaml: anchor 's' value contains itself/)
  t.match(refusal('services: {80: {image: x}}\n'), /^a\.yml:1:12: Non-string key: 80$/)
  t.match(refusal('services: {web: {image: !env x}}\n'), /unknown tag !env: only !reset and !override are known$/)
  t.match(refusal('services: {web: {<<: text}}\n'), /map merge requires map or sequence of maps as the value/)
  t.match(refusal(`x: ${'['.repeat(200)}${']'.repeat(200)}`), /more than 100 levels of nesting/)
  const levels = Array.from({ length: 12 }, (_, i) => `x-${i + 1}: &l${i + 1} [${`*l${i}, `.repeat(9)}]`)
  t.match(refusal(`x-0: &l0 lol\n${levels.join('\n')}\n`), /yaml: document contains excessive aliasing/)
})

t.test('dates and large numbers stay as they are written', async (t) => {
  const { model } = load('services: {a: {image: x, environment: {D: 2020-01-01, N: 12345678901234567890, O: 0440}}}')
  t.same(
    model.services.get('a')?.environment,
    new Map([
      ['D', '2020-01-01'],
      ['N', '12345678901234567890'],
      ['O', '288'],
    ]),
  )
})

t.test('names that JavaScript knows are names like others', async (t) => {
  t.match(refusal('services: {web: {image: x, constructor: 1}}'), /Additional property constructor is not allowed$/)
  t.match(refusal('__proto__: 1\nservices: {}'), /\(root\) Additional property __proto__ is not allowed$/)
  const { model } = load('services: {a: {image: x, labels: {__proto__: y, toString: z}}}')
  t.same(
    [...(model.services.get('a')?.labels ?? [])],
    [
      ['__proto__', 'y'],
      ['toString', 'z'],
    ],
  )
})
