// What docker and swarmctl make of the same stack files: the merged file that they print, and the requests that they send
// to deploy it and to deploy it again. Docker's side is recorded (compose-record.ts).

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { fileShape } from '../../src/cli/compose/compose-keys.ts'
import type { Node } from '../../src/cli/compose/node.ts'
import { parseYaml } from '../../src/cli/compose/parse-yaml.ts'
import { childShape, chosen, type Row, type Shape } from '../../src/cli/compose/shape.ts'
import {
  CASES,
  composeArguments,
  ENVIRONMENT,
  GOLDEN,
  type GoldenFile,
  SPECIFICATION,
  STACKS,
  withoutCheckout,
} from './compose-cases.ts'
import { byName, DIFFERENCES, unexplained } from './compose-compare.ts'
import { type Recorded, StackRecorder } from './compose-recorder.ts'
import { swarmctl } from './compose-run.ts'

const folder = mkdtempSync(join(tmpdir(), 'compose-docker-'))
t.teardown(() => rmSync(folder, { recursive: true }))

for (const names of CASES) {
  const name = names.join('+')
  t.test(name, async (t) => {
    const golden = JSON.parse(readFileSync(join(GOLDEN, `${name}.json`), 'utf8')) as GoldenFile
    const difference = DIFFERENCES[name]
    const config = await swarmctl(['stack', 'config', ...composeArguments(names)], ENVIRONMENT)
    const printed = withoutCheckout(config.stdout)
    if (difference?.refuses) {
      t.match(config.stderr, difference.refuses, difference.reason ?? '')
      return
    }
    const text = difference?.config ? difference.config(printed) : printed
    if (difference?.where) t.same(unexplained(parse(text), parse(golden.config), difference.where), [], 'the same file')
    else t.equal(text, golden.config, 'the same file')

    const recorder = new StackRecorder()
    const socket = join(folder, `${name}.sock`)
    await recorder.listen(socket)
    t.teardown(() => recorder.close())
    const deploy = () =>
      swarmctl(['stack', 'deploy', '-d', '--resolve-image', 'never', ...composeArguments(names), 'st'], {
        ...ENVIRONMENT,
        DOCKER_HOST: `unix://${socket}`,
      })
    const first = await deploy()
    t.equal(first.exitCode, golden.exitCode, first.stderr)
    const compare = (sent: readonly Recorded[], wanted: readonly Recorded[], what: string) =>
      t.same(unexplained(byName(sent), byName(wanted), difference?.where ?? {}), [], what)
    if (golden.exitCode === 0) {
      compare(recorder.take(), golden.requests, 'the same objects')
      recorder.force()
      await deploy()
      compare(recorder.take(), golden.updates, 'the same updates')
    } else {
      const [reason = ''] = golden.stderr.trim().split('\n').slice(-1)
      t.match(
        withoutCheckout(first.stderr),
        new RegExp(`${reason.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`, 'm'),
        'the same refusal',
      )
      t.same(recorder.take(), [], 'and nothing was sent before')
    }
  })
}

for (const { files, like, flags = [] } of SPECIFICATION) {
  t.test(`${files.join('+')} is as docker has ${like.join('+')}`, async (t) => {
    const golden = JSON.parse(readFileSync(join(GOLDEN, `${like.join('+')}.json`), 'utf8')) as GoldenFile
    const recorder = new StackRecorder()
    const socket = join(folder, `${files.join('+')}.sock`)
    await recorder.listen(socket)
    t.teardown(() => recorder.close())
    const { exitCode, stderr } = await swarmctl(
      ['stack', 'deploy', '-d', '--resolve-image', 'never', ...flags, ...composeArguments(files), 'st'],
      { ...ENVIRONMENT, DOCKER_HOST: `unix://${socket}` },
    )
    t.equal(exitCode, 0, stderr)
    t.same(unexplained(byName(recorder.take()), byName(golden.requests), {}), [])
  })
}

t.test('the files have every key that is not refused', async (t) => {
  const reached = new Set<string>()
  const names = [...CASES.flat(), ...SPECIFICATION.flatMap(({ files }) => files), 'spec-all']
  for (const name of new Set(names)) {
    const { root } = parseYaml(readFileSync(join(STACKS, `${name}.yml`), 'utf8'), name)
    for (const path of keysOf(root, fileShape, '')) reached.add(path)
  }
  const rows = allKeys(fileShape, '').filter(([, { use }]) => use !== 'refused' && use !== 'forbidden')
  t.ok(rows.length > 200)
  t.same(
    rows.map(([path]) => path).filter((path) => !reached.has(path)),
    [],
  )
})

t.test('a file with all that the Specification adds is taken, and printed as it is taken', async (t) => {
  const recorder = new StackRecorder()
  const socket = join(folder, 'all.sock')
  await recorder.listen(socket)
  t.teardown(() => recorder.close())
  const environment = { ...ENVIRONMENT, DOCKER_HOST: `unix://${socket}` }
  const first = await swarmctl(
    ['stack', 'deploy', '-d', '--resolve-image', 'never', ...composeArguments(['spec-all']), 'st'],
    environment,
  )
  t.equal(first.exitCode, 0, first.stderr)
  const requests = recorder.take()
  t.ok(requests.length > 3)
  const printed = await swarmctl(['stack', 'config', ...composeArguments(['spec-all'])], environment)
  t.equal(printed.exitCode, 0, printed.stderr)
  const again = await swarmctl(
    ['stack', 'deploy', '-d', '--resolve-image', 'never', '-c', '-', 'again'],
    environment,
    // it is read from another place
    printed.stdout.replace('files/app.env', join(STACKS, 'files/app.env')),
  )
  t.equal(again.exitCode, 0, again.stderr)
  const renamed = JSON.parse(
    JSON.stringify(recorder.take())
      .replaceAll('"again_', '"st_')
      .replaceAll('again_', 'st_')
      .replaceAll('"again"', '"st"'),
  ) as typeof requests
  t.same(byName(renamed), byName(requests))
})

/** Paths of the table that a file has. */
function keysOf(node: Node, shape: Shape | undefined, path: string): readonly string[] {
  if (!shape) return []
  if (node.kind === 'list')
    return node.items.flatMap((item) => keysOf(item, childShape(shape, item, 0) ?? itemShape(shape), `${path}[]`))
  if (node.kind !== 'map') return []
  const inner = chosen(shape, node)
  return [...node.entries].flatMap(([key, entry]) => {
    const below = `${path}.${inner.kind === 'dict' ? '*' : key}`
    return [below, ...keysOf(entry.node, childShape(shape, node, key), below)]
  })
}

const itemShape = (shape: Shape): Shape | undefined => (shape.kind === 'list' ? shape.items : undefined)

function allKeys(shape: Shape, path: string): readonly (readonly [string, Row])[] {
  switch (shape.kind) {
    case 'choice':
      return shape.of.flatMap((one) => allKeys(one, path))
    case 'list':
      return allKeys(shape.items, `${path}[]`)
    case 'dict':
      return allKeys(shape.value, `${path}.*`)
    case 'map':
      return Object.entries(shape.keys).flatMap(([key, row]) => [
        [`${path}.${key}`, row] as const,
        ...allKeys(row.shape, `${path}.${key}`),
      ])
    case 'any':
    case 'scalar':
      return []
  }
}
