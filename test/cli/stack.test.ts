// The stack commands against swarmd's API over a real store. No loops run: the tests make the tasks.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are the compose files' variables

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Service, Task } from '../../src/api/objects.ts'
import type { TaskState, UpdateStatus } from '../../src/api/spec.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { ask } from '../support/api-client.ts'
import { NODE_ID } from '../support/api-cluster.ts'
import { aTask, statusOf } from '../support/objects.ts'
import { serveApi } from '../support/served-api.ts'
import { type Ran, swarmctl } from './compose-run.ts'

type Test = Pick<typeof t, 'teardown'>

async function serve(test: Test, isManager = true) {
  const { folder, socket, cluster } = await serveApi(test)
  if (isManager) await ask(socket, 'POST', '/swarm/init', { body: { ListenAddr: '127.0.0.1:2377' } })
  const environment = { HOME: folder, DOCKER_HOST: `unix://${socket}` }
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  return {
    folder,
    cluster,
    write,
    service: (name: string) => cluster.store.byName('service', name)!,
    stack: (words: readonly string[], stdin = '', more: Readonly<Record<string, string>> = {}) =>
      swarmctl(['stack', ...words], { ...environment, ...more }, stdin),
    /** Deploys `text` and does not wait. */
    deploy: (text: string, ...flags: readonly string[]) =>
      swarmctl(['stack', 'deploy', '-d', '--resolve-image', 'never', ...flags, '-c', '-', 'st'], environment, text),
  }
}

type Served = Awaited<ReturnType<typeof serve>>

function addTask({ cluster }: Served, service: Service, state: TaskState, over: Partial<Task> = {}): void {
  const task = aTask(`task${cluster.store.list('task').length}`.padEnd(25, '0'), service.id, {
    serviceName: service.spec.Name ?? '',
    serviceLabels: service.spec.Labels ?? {},
    spec: service.spec.TaskTemplate ?? {},
    specVersion: service.specVersion,
    nodeId: NODE_ID,
    status: statusOf(state),
    ...over,
  })
  cluster.apply([{ kind: 'create', object: task }])
}

function setUpdateStatus({ cluster }: Served, service: Service, status: UpdateStatus): void {
  const updateStatus = { StartedAt: '2026-01-01T00:00:00Z', ...status }
  cluster.apply([{ kind: 'update', object: { ...service, updateStatus }, expectedVersion: service.meta.version }])
}

const WEB = 'services:\n  web: {image: nginx:1, deploy: {update_config: {monitor: 1ms}}}\n'

t.test('a stack is made in docker’s order, and made again without a change', async (t) => {
  const served = await serve(t)
  served.write('s.txt', 'secret')
  const file = served.write(
    'stack.yml',
    `services:
  web: {image: "nginx:1", secrets: [s], configs: [c], networks: [front]}
  api: {image: "api:1", networks: [front, back]}
networks: {front: , back: , unused: }
secrets: {s: {file: ./s.txt}}
configs: {c: {file: s.txt}}
`,
  )
  const deploy = () => served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', file, 'st'])
  const first = await deploy()
  t.equal(first.exitCode, 0, first.stderr)
  t.equal(
    first.stdout,
    [
      ...['Creating network st_back', 'Creating network st_front', 'Creating secret st_s', 'Creating config st_c'],
      ...['Creating service st_api', 'Creating service st_web', ''],
    ].join('\n'),
  )
  const web = served.service('st_web')
  t.match(web.spec.TaskTemplate?.ContainerSpec?.Secrets?.[0], { SecretName: 'st_s', SecretID: /^.{25}$/ })
  const second = await deploy()
  t.equal(
    second.stdout,
    `Updating service st_api (id: ${served.service('st_api').id})\nUpdating service st_web (id: ${web.id})\n`,
  )
  t.same(served.service('st_web').spec, web.spec, 'no task will be restarted')
})

t.test('an update by force is not undone, and an image keeps its digest', async (t) => {
  const served = await serve(t)
  await served.deploy('services: {web: {image: "nginx:1"}}')
  const before = served.service('st_web')
  const pinned = `nginx:1@sha256:${'a'.repeat(64)}`
  const template = before.spec.TaskTemplate ?? {}
  const spec = {
    ...before.spec,
    TaskTemplate: { ...template, ForceUpdate: 7, ContainerSpec: { ...template.ContainerSpec, Image: pinned } },
  }
  served.cluster.apply([{ kind: 'update', object: { ...before, spec }, expectedVersion: before.meta.version }])
  await served.deploy('services: {web: {image: "nginx:1", hostname: new}}')
  const after = served.service('st_web').spec.TaskTemplate
  t.match(after, { ForceUpdate: 7, ContainerSpec: { Image: pinned, Hostname: 'new' } })
  await served.deploy('services: {web: {image: "nginx:2"}}')
  t.equal(served.service('st_web').spec.TaskTemplate?.ContainerSpec?.Image, 'nginx:2')
})

t.test('--prune removes services that are no longer there, and only those of this stack', async (t) => {
  const served = await serve(t)
  await served.deploy('services: {a: {image: x}, b: {image: x}}')
  await served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', '-', 'other'], 'services: {a: {image: x}}')
  const pruned = await served.deploy('services: {b: {image: x}}', '--prune')
  t.match(pruned.stdout, /^Removing service st_a\nUpdating service st_b /)
  const names = served.cluster.store.list('service').map(({ spec }) => spec.Name ?? '')
  t.same(new Set(names), new Set(['other_a', 'st_b']))
})

t.test('what cannot be deployed is refused before anything is made', async (t) => {
  const served = await serve(t)
  const refused = async (text: string, message: RegExp, flags: readonly string[] = []) => {
    const ran = await served.deploy(text, ...flags)
    t.equal(ran.exitCode, 1, String(message))
    t.match(ran.stderr, message)
    t.same([served.cluster.store.list('service'), served.cluster.store.list('network')], [[], []])
  }
  const external = 'services: {web: {image: x, networks: [out]}}\nnetworks: {out: {external: true}}\n'
  await refused(external, /^network "out" is declared as external, but could not be found\. You need to create/)
  await refused(
    external.replace('external: true', 'external: true, name: bridge2'),
    /network "bridge2" is declared as external/,
  )
  await refused('services: {web: {image: x}}', /^invalid option sometimes for flag --resolve-image$/m, [
    '--resolve-image=sometimes',
  ])
  await refused(
    'services:\n  web: {image: x, volumes: ["data:/b"]}',
    /^stdin:2:29: service web: undefined volume "data"$/m,
  )
  t.match((await served.stack(['deploy', 'st'])).stderr, /specify a Compose file \(with --compose-file\)/)
  t.match(
    (await served.stack(['deploy', '-c', '/none.yml', 'st'])).stderr,
    /open \/none\.yml: no such file or directory/,
  )
  t.match((await served.stack(['deploy', '-c', '-', ' '], WEB)).stderr, /invalid stack name: " "/)
  const outside = await serve(t, false)
  const ran = await outside.deploy(WEB)
  t.match(ran.stderr, /^this node is not a swarm manager\. Use "swarmctl swarm init" or "swarmctl swarm join"/)
})

t.test('new content of a secret is refused with what to do', async (t) => {
  const served = await serve(t)
  const file = served.write('stack.yml', 'services: {web: {image: x, secrets: [s]}}\nsecrets: {s: {file: s.txt}}\n')
  const deploy = () => served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', file, 'st'])
  served.write('s.txt', 'one')
  await deploy()
  served.write('s.txt', 'two')
  const ran = await deploy()
  t.equal(ran.exitCode, 1)
  t.match(
    ran.stderr,
    /^failed to update secret st_s: Error response from daemon: .*only updates to Labels are allowed$/m,
  )
  t.match(ran.stderr, /Give the new content a new name in the Compose file/)
})

/** Deploys and waits; `meanwhile` plays the cluster once the service is there. */
async function deployAndWait(
  served: Served,
  flags: readonly string[],
  meanwhile: (service: Service) => void,
): Promise<Ran> {
  const words = ['deploy', '--resolve-image', 'never', ...flags, '-c', '-', 'st']
  const ran = served.stack(words, WEB)
  await new Promise<void>((resolve) => {
    const stop = served.cluster.store.subscribe((events) => {
      if (!events.some(({ objectKind }) => objectKind === 'service')) return
      stop()
      // not inside of the proposal that is being applied
      queueMicrotask(() => {
        meanwhile(served.service('st_web'))
        resolve()
      })
    })
  })
  return await ran
}

t.test('deploy waits until all have converged, a line for each change', async (t) => {
  const served = await serve(t)
  const ran = await deployAndWait(served, [], (service) => addTask(served, service, 'running'))
  t.equal(ran.exitCode, 0, ran.stderr)
  t.match(
    ran.stdout,
    /^Creating network st_default\nCreating service st_web\n(st_web: .*\n)*st_web: 1 out of 1 tasks, converged\n$/,
  )
  const quiet = await deployAndWait(await serve(t), ['--quiet', '--timeout=1ms'], () => {})
  t.equal(quiet.stdout, 'Creating network st_default\nCreating service st_web\n')
})

t.test('a time without a leader is no end of the wait', async (t) => {
  const served = await serve(t)
  let refusals = 0
  const ran = await deployAndWait(served, [], (service) => {
    // from here on it is the wait that reads
    served.cluster.readIndex = async () => {
      if (refusals++ < 3) throw new CodedError('NO_LEADER', 'there is no leader')
      if (served.cluster.store.list('task').length === 0) addTask(served, service, 'running')
    }
  })
  t.ok(refusals > 3)
  t.equal(ran.exitCode, 0, ran.stderr)
  t.match(ran.stdout, /converged\n$/)
})

t.test('a service that does not come in time is an error that says why', async (t) => {
  const served = await serve(t)
  const ran = await deployAndWait(served, ['--timeout', '300ms'], (service) =>
    addTask(served, service, 'rejected', { status: statusOf('rejected', { error: 'No such image: nginx:1' }) }),
  )
  t.equal(ran.exitCode, 1)
  t.match(ran.stderr, /^not converged after 300ms:\n {2}st_web: 0 out of 1 tasks - No such image: nginx:1\n$/m)
})

t.test('a paused update, a rollback and a removal end the wait with exit code 1', async (t) => {
  const ends: readonly (readonly [UpdateStatus, string])[] = [
    [
      { State: 'paused', Message: 'update paused due to failure' },
      'service update paused: update paused due to failure',
    ],
    [{ State: 'rollback_paused', Message: 'no' }, 'service rollback paused: no'],
    [{ State: 'rollback_completed', Message: 'rollback completed' }, 'service rolled back: rollback completed'],
  ]
  for (const [status, message] of ends) {
    const served = await serve(t)
    const ran = await deployAndWait(served, [], (service) => setUpdateStatus(served, service, status))
    t.equal(ran.exitCode, 1)
    t.equal(ran.stderr.split('\n').at(-2), `st_web: ${message}`)
  }
  const served = await serve(t)
  const gone = await deployAndWait(served, [], ({ id, meta }) => {
    served.cluster.apply([{ kind: 'remove', objectKind: 'service', id, expectedVersion: meta.version }])
  })
  t.equal(gone.stderr.split('\n').at(-2), 'st_web: service was removed')
})

t.test('a job is waited for until it is complete', async (t) => {
  const served = await serve(t)
  await served.deploy('services: {job: {image: x, deploy: {mode: replicated-job, replicas: 1}}}')
  t.same(served.service('st_job').spec.Mode, { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 1 } })
})

t.test('rm removes services, secrets, configs and networks, and waits for the tasks', async (t) => {
  const served = await serve(t)
  const file = served.write(
    'stack.yml',
    'services: {b: {image: x, secrets: [s]}, a: {image: x, configs: [c]}}\nsecrets: {s: {file: stack.yml}}\nconfigs: {c: {file: stack.yml}}\n',
  )
  await served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', file, 'st'])
  addTask(served, served.service('st_a'), 'running')
  const { id } = served.cluster.store.list('task')[0]!
  const removal = served.stack(['rm', 'st'])
  let isDone = false
  void removal.then(() => {
    isDone = true
  })
  while (served.cluster.store.list('network').length > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  t.notOk(isDone, 'the task still runs')
  const task = served.cluster.store.get('task', id)!
  served.cluster.apply([{ kind: 'remove', objectKind: 'task', id, expectedVersion: task.meta.version }])
  const ran = await removal
  t.equal(ran.exitCode, 0, ran.stderr)
  t.equal(
    ran.stdout,
    [
      ...['Removing service st_a', 'Removing service st_b', 'Removing secret st_s', 'Removing config st_c'],
      ...['Removing network st_default', ''],
    ].join('\n'),
  )
  const again = await served.stack(['rm', 'st'])
  t.same([again.exitCode, again.stderr], [0, 'Nothing found in stack: st\n'])
})

t.test('what is not removed is an error that names the stack', async (t) => {
  const served = await serve(t)
  const file = served.write('stack.yml', 'services: {a: {image: x, secrets: [s]}}\nsecrets: {s: {file: stack.yml}}\n')
  await served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', file, 'st'])
  // a service of nobody uses the stack's secret
  const { spec } = served.service('st_a')
  const environment = { HOME: served.folder, DOCKER_HOST: `unix://${join(served.folder, 'swarmd.sock')}` }
  const secret = spec.TaskTemplate?.ContainerSpec?.Secrets?.[0]?.SecretName ?? ''
  await swarmctl(
    ['service', 'create', '-d', '--no-resolve-image', '--name', 'user', '--secret', secret, 'x'],
    environment,
  )
  const ran = await served.stack(['rm', '-d', 'st', 'nothing'])
  t.equal(ran.exitCode, 1)
  t.match(ran.stderr, /^Failed to remove secret .{25}: Error response from daemon: .*in use/m)
  t.match(ran.stderr, /^Nothing found in stack: nothing$/m)
  t.match(ran.stderr, /^failed to remove some resources from stack: st$/m)
})

t.test('listings', async (t) => {
  const served = await serve(t)
  t.equal((await served.stack(['ls'])).stdout, 'NAME      SERVICES\n')
  await served.deploy('services: {a: {image: "x:1"}, b: {image: x, deploy: {mode: global}}}')
  await served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', '-', 'st10'], WEB)
  addTask(served, served.service('st_a'), 'running')
  t.equal((await served.stack(['ls'])).stdout, 'NAME      SERVICES\nst        2\nst10      1\n')
  t.equal((await served.stack(['ls', '--format', 'json'])).stdout.split('\n')[0], '{"Name":"st","Services":"2"}')
  const { id } = served.service('st_a')
  t.match(
    (await served.stack(['services', 'st'])).stdout,
    new RegExp(`^ID {13}NAME {6}MODE {9}REPLICAS {3}IMAGE +PORTS *\\n${id.slice(0, 12)} +st_a +replicated +1/1 +x:1`),
  )
  t.equal((await served.stack(['services', '-q', '-f', 'name=st_a', 'st'])).stdout, `${id.slice(0, 12)}\n`)
  t.same((await served.stack(['services', 'none'])).stderr, 'Nothing found in stack: none\n')
  t.equal((await served.stack(['ps', '--format', '{{.Name}} {{.Node}}', 'st'])).stdout, 'st_a.1 manager-1\n')
  t.equal((await served.stack(['ps', '--no-resolve', '--format', '{{.Node}}', 'st'])).stdout, `${NODE_ID}\n`)
  t.match(await served.stack(['ps', 'none']), { exitCode: 1, stderr: 'nothing found in stack: none\n' })
})

t.test('several files by commas and flags; variables from .env, --env-file and the environment', async (t) => {
  const served = await serve(t)
  const base = served.write(
    'base.yml',
    'services: {web: {image: "${A-unset}", hostname: "${B-unset}", user: "${C-unset}"}}\n',
  )
  const more = served.write('more.yml', 'services: {web: {domainname: d, labels: {x: "${A-unset}"}}}\n')
  const config = async (words: readonly string[], environment: Readonly<Record<string, string>> = {}) => {
    const ran = await served.stack(['config', ...words], '', environment)
    return /hostname: (.*)\n {4}image: (.*)\n(?:[\s\S]*x: (.*)\n)?[\s\S]*user: (.*)\n/.exec(ran.stdout)?.slice(1)
  }
  t.same(await config(['-c', base]), ['unset', 'unset', undefined, 'unset'])
  served.write('.env', '# variables\nexport A=one # comment\nB="two\\n$A"\nC=\'$A\'\n')
  t.same(await config(['-c', `${base},${more}`], { B: 'mine' }), ['mine', 'one', 'one', '$A'])
  mkdirSync(join(served.folder, 'sub'))
  const other = served.write('sub/other.env', 'A: from file\nB=${NONE:-${A}}\nC\n')
  t.same(await config(['-c', base, '-c', more, '--env-file', other]), ['from file', 'from file', 'from file', 'unset'])
  const bad = served.write('bad.env', 'A=1\n=oops\n')
  t.match(
    (await served.stack(['config', '-c', base, '--env-file', bad])).stderr,
    /bad\.env: line 2: unexpected "=oops"/,
  )
  t.match((await served.stack(['config', '--skip-interpolation', '-c', base])).stdout, /image: \$\{A-unset\}/)
})
