// `service create` and `service update` send what the docker CLI sends. golden/service-requests.json holds what docker
// 28.2.2 sent for each command line of service-cases.ts, refusals.json what it said to those that it refused;
// test/e2e/cli-requests.test.ts makes them anew.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { Flags } from '../../src/cli/flags.ts'
import { withDefaultTag } from '../../src/cli/reference.ts'
import { scan } from '../../src/cli/scan.ts'
import { createSpec } from '../../src/cli/service/create-spec.ts'
import { createFlags, updateCommandFlags } from '../../src/cli/service/flags.ts'
import { Resolved } from '../../src/cli/service/resolve.ts'
import { updateSpec } from '../../src/cli/service/update-spec.ts'
import { parseEnvFile } from '../../src/cli/service/values.ts'
import { DockerRecorder } from '../e2e/support/docker-recorder.ts'
import { swarmctl } from './compose-run.ts'
import { createCases, refusals, updateCases } from './service-cases.ts'
import { comparableSpec } from './spec-compare.ts'

interface Golden {
  readonly create: Readonly<Record<string, ServiceSpec>>
  readonly update: Readonly<Record<string, ServiceSpec>>
}

const folder = join(process.cwd(), 'test/cli/golden')
const read = <T>(name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as T
const golden = read<Golden>('service-requests.json')
const base = read<{ Spec: ServiceSpec }>('base-service.json').Spec
const environment = { FROM_SHELL: 'shell value' }
const resolved = new Resolved({
  networks: new Map(['net1', 'net2'].map((name) => [name, `idof${name}`])),
  secrets: new Map(['s1', 's2'].map((name, i) => [name, `id${i}of${name}`])),
  configs: new Map(['c1', 'c2'].map((name, i) => [name, `id${i}of${name}`])),
})

for (const words of createCases) {
  t.test(`create ${words.join(' ')}`, async (t) => {
    const scanned = scan(words, createFlags, environment, { stopAtOperand: true })
    const flags = new Flags(scanned.values)
    const variables = flags.list('env-file').flatMap((name) => parseEnvFile(name, readFileSync(name), environment))
    const spec = createSpec(flags, scanned.rest, resolved, variables)
    const container = spec.TaskTemplate?.ContainerSpec
    const sent = {
      ...spec,
      TaskTemplate: {
        ...spec.TaskTemplate,
        ContainerSpec: { ...container, Image: withDefaultTag(container?.Image ?? '') },
      },
    }
    t.equal(comparableSpec(sent), comparableSpec(golden.create[words.join(' ')]))
  })
}

for (const words of updateCases) {
  t.test(`update ${words.join(' ')}`, async (t) => {
    const flags = new Flags(scan(words, updateCommandFlags, environment).values)
    t.equal(comparableSpec(updateSpec(base, flags, resolved)), comparableSpec(golden.update[words.join(' ')]))
  })
}

t.test('what docker refuses is refused with its words', async (t) => {
  const said = read<Record<string, string>>('refusals.json')
  // a path of a socket is short
  const folder = mkdtempSync(join(tmpdir(), 'cli-refusals-'))
  const socket = join(folder, 'docker.sock')
  const recorder = new DockerRecorder(read('base-service.json'))
  await recorder.listen(socket)
  t.teardown(async () => {
    await recorder.close()
    rmSync(folder, { recursive: true })
  })
  for (const words of refusals) {
    const { exitCode, stderr } = await swarmctl(words, { DOCKER_HOST: `unix://${socket}` })
    t.equal(`${exitCode} ${stderr.replaceAll('swarmctl', 'docker')}`, said[words.join(' ')], words.join(' '))
  }
  t.same(recorder.takeChanges(), [], 'nothing was changed')
})

t.test('update keeps fields that this client does not know', async (t) => {
  const spec = { ...base, Later: { a: 1 } } as ServiceSpec
  const flags = new Flags(new Map([['env-add', ['X=1']]]))
  t.match(updateSpec(spec, flags, resolved), { Later: { a: 1 } })
})

t.test('memory-swap and memory-swappiness are set on create and update', async (t) => {
  const flags = new Flags(
    new Map([
      ['memory-swap', ['-1']],
      ['memory-swappiness', ['60']],
    ]),
  )
  const wanted = { TaskTemplate: { Resources: { SwapBytes: -1, MemorySwappiness: 60 } } }
  t.match(createSpec(flags, ['busybox'], resolved, []), wanted)
  t.match(updateSpec(base, flags, resolved), wanted)
})
