// The stack commands against swarmd's API over a real store. No loops run: the tests make the tasks.
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are the compose files' variables

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Service, Task } from '../../src/api/objects.ts'
import type { TaskState, UpdateStatus } from '../../src/api/spec.ts'
import { compareText } from '../../src/cli/strconv.ts'
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

t.test('new contents of a secret take the place of the old, which stay as long as a rollback needs them', async (t) => {
  const served = await serve(t)
  const text = 'services: {web: {image: x, secrets: [s]}, api: {image: x}}\nsecrets: {s: {file: s.txt}}\n'
  const file = served.write('stack.yml', text)
  const secrets = () => served.cluster.store.list('secret').map(({ spec }) => spec.Name ?? '')
  const used = () => served.service('st_web').spec.TaskTemplate?.ContainerSpec?.Secrets ?? []
  const deploy = async (contents: string) => {
    served.write('s.txt', contents)
    const ran = await served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', file, 'st'])
    t.equal(ran.exitCode, 0, ran.stderr)
    return ran.stdout
  }
  await deploy('one')
  t.match(
    await deploy('two'),
    /^Creating secret st_s\.2 \(in place of st_s, whose contents differ\)\nUpdating service st_api/,
  )
  t.same(secrets().toSorted(compareText), ['st_s', 'st_s.2'])
  const labels = served.cluster.store.byName('secret', 'st_s.2')?.spec.Labels
  t.match(labels, { 'io.swarmctl.version-of': 'st_s' })
  t.match(used(), [
    { SecretName: 'st_s.2', SecretID: served.cluster.store.byName('secret', 'st_s.2')?.id, File: { Name: 's' } },
  ])
  t.notMatch(await deploy('two'), /secret/, 'no other contents, no other secret')
  t.match(await deploy('three'), /^Creating secret st_s\.3 [\s\S]*\nRemoving secret st_s\n$/)
  t.same(secrets().toSorted(compareText), ['st_s.2', 'st_s.3'])
  await deploy('two')
  t.match(used(), [{ SecretName: 'st_s.2' }], 'what is there already serves again')
})

t.test('--prune removes networks, secrets and configs as well, but no one else’s', async (t) => {
  const served = await serve(t)
  served.write('s.txt', 'x')
  const all = `services: {a: {image: x, networks: [n, m], secrets: [s], configs: [c]}}
networks: {n: , m: }
secrets: {s: {file: ${served.folder}/s.txt}}
configs: {c: {file: ${served.folder}/s.txt}}
`
  await served.deploy(all)
  const pruned = await served.deploy('services: {a: {image: x, networks: [n]}}\nnetworks: {n: }\n', '--prune')
  t.match(pruned.stdout, /^Updating service st_a [\s\S]*Removing network st_m\n$/)
  t.same(
    served.cluster.store
      .list('network')
      .filter(({ spec }) => !spec.Ingress)
      .map(({ spec }) => spec.Name),
    ['st_n'],
  )
  t.same(served.cluster.store.list('secret').length, 1, 'a rollback would need it')
  const again = await served.deploy('services: {a: {image: y, networks: [n]}}\nnetworks: {n: }\n', '--prune')
  t.match(again.stdout, /Removing secret st_s\nRemoving config st_c\n$/)
})

t.test('a plan says what a deployment would do, and does nothing', async (t) => {
  const served = await serve(t)
  const plan = (text: string, ...flags: readonly string[]) =>
    served.stack(['plan', '--resolve-image', 'never', ...flags, '-c', '-', 'st'], text)
  const first =
    'services:\n  web: {image: "nginx:1", environment: {A: "1", B: "2"}, deploy: {replicas: 2}}\n  old: {image: x}\n'
  const fresh = await plan(first)
  t.equal(fresh.exitCode, 2)
  t.match(
    fresh.stdout,
    /^Stack st, planned against state \d+ of the cluster\n\n\+ network st_default\n\+ service st_old\n\+ service st_web\n\n3 to create, /,
  )
  t.same(served.cluster.store.list('service'), [])
  await served.deploy(first)
  const web = served.service('st_web')
  const endpoint = { spec: web.spec.EndpointSpec ?? {}, ports: [], virtualIps: [] }
  addTask(served, web, 'running', { desiredState: 'running', slot: 1, endpoint })
  addTask(served, web, 'running', { desiredState: 'running', slot: 2, endpoint })
  const same = await plan(first)
  t.match([same.exitCode, same.stdout], [0, /: nothing to do\.\n$/])
  t.equal((await plan(first, '-q')).stdout, '')

  const second = 'services:\n  web: {image: "nginx:2", environment: {A: "3", C: "4"}, deploy: {replicas: 2}}\n'
  const changed = await plan(second, '--prune')
  t.equal(changed.exitCode, 2)
  t.equal(
    changed.stdout.split('\n').slice(2).join('\n'),
    `- service st_old  stops 0 tasks
~ service st_web  replaces 2 tasks
    ~ Labels["com.docker.stack.image"]: nginx:1 → nginx:2
    ~ TaskTemplate.ContainerSpec.Image: nginx:1 → nginx:2
    ~ TaskTemplate.ContainerSpec.Env[A]: 1 → 3
    - TaskTemplate.ContainerSpec.Env[B]: 2
    + TaskTemplate.ContainerSpec.Env[C]: 4

0 to create, 1 to change (2 tasks replaced), 1 to remove (0 tasks stopped), 1 as they are.
`,
  )
  const json = JSON.parse((await plan(second, '--format', 'json')).stdout) as {
    Stack: string
    Actions: { Action: string }[]
  }
  t.match(json, { Stack: 'st', Actions: [{ Action: 'none' }, { Action: 'update' }] })
  const scaled = await plan(first.replace('replicas: 2', 'replicas: 5'))
  t.match(scaled.stdout, /~ service st_web {2}restarts nothing\n {4}~ Mode\.Replicated\.Replicas: 2 → 5\n/)
  t.match(await plan('services: {web: {image: x, secrets: [s]}}\nsecrets: {s: {external: true}}\n'), {
    exitCode: 1,
    stderr: 'service st_web: secret not found: s\n',
  })
  t.match(await plan(`${first}networks: {default: {attachable: true}}\n`), {
    exitCode: 0,
    stdout: /! network st_default {2}differs and stays as it is: networks cannot be changed\n {4}\+ Attachable: true\n/,
  })
})

t.test('a kept plan is carried out as it is, and not at all once something has moved', async (t) => {
  const served = await serve(t)
  served.write('s.txt', 'secret')
  const file = join(served.folder, 'plan.json')
  const compose = served.write(
    'stack.yml',
    'services: {web: {image: "nginx:1", secrets: [s]}}\nsecrets: {s: {file: s.txt}}\n',
  )
  const make = () => served.stack(['plan', '-q', '--resolve-image', 'never', '--out', file, '-c', compose, 'st'])
  t.equal((await make()).exitCode, 2)
  t.equal(statSync(file).mode & 0o777, 0o600)
  const text = readFileSync(file, 'utf8')
  t.notMatch(text, Buffer.from('secret').toString('base64'), 'no contents of secrets')
  t.match(text, createHash('sha256').update('secret').digest('hex'), 'but what they are known by')
  served.write('s.txt', 'other')
  const deploy = (...words: readonly string[]) => served.stack(['deploy', '-d', '--plan', file, ...words])
  t.match(await deploy('other'), { exitCode: 1, stderr: 'the plan is one for stack st: leave out other\n' })
  t.match(await deploy('-c', compose, '--prune'), { exitCode: 1, stderr: /^--prune is for making a plan/ })
  t.match(await deploy('--env-file', compose), { exitCode: 1, stderr: /^--env-file is for making a plan/ })
  t.match(await deploy(), {
    exitCode: 1,
    stderr:
      'the plan creates secrets (st_s), and no plan holds the contents of secrets: name the Compose files again with --compose-file. Nothing was changed.\n',
  })
  t.match(await deploy('-c', compose), {
    exitCode: 1,
    stderr: 'secret st_s is not what it was when the plan was made. Nothing was changed.\n',
  })
  const without = served.write('without.yml', 'services: {web: {image: "nginx:1"}}\n')
  t.match(await deploy('-c', without), {
    exitCode: 1,
    stderr: 'secret st_s is not in the Compose files. Nothing was changed.\n',
  })
  t.equal(served.cluster.store.list('network').length, 0)
  served.write('s.txt', 'secret')
  t.equal((await deploy('-c', compose)).exitCode, 0)
  const data = served.cluster.store.byName('secret', 'st_s')?.spec.Data ?? ''
  t.equal(Buffer.from(data, 'base64').toString(), 'secret', 'as it was when the plan was made')
  t.match(await deploy(), {
    exitCode: 1,
    stderr:
      /^the stack has moved since the plan was made:\n {2}network st_default is new\n {2}secret st_s is new\n {2}service st_web is new\n/,
  })
  await make()
  served.write('s.txt', 'what an unchanged secret is read for no more')
  const service = served.service('st_web')
  setUpdateStatus(served, service, { State: 'completed' })
  t.equal((await deploy()).exitCode, 0, 'how far an update is moves nothing')
  await make()
  await served.stack(
    ['deploy', '-d', '--resolve-image', 'never', '-c', '-', 'st'],
    'services: {web: {image: "nginx:3"}}',
  )
  t.match(await deploy(), { exitCode: 1, stderr: /service st_web has changed\nNothing was changed\./ })
  t.match(await served.stack(['deploy', '--plan', compose]), { exitCode: 1, stderr: /^cannot read the plan / })
})

t.test('one service of a stack is deployed with what it needs', async (t) => {
  const served = await serve(t)
  served.write('s.txt', 'x')
  const text = `services: {a: {image: x, networks: [n], secrets: [s]}, b: {image: y, networks: [m]}}
networks: {n: , m: }
secrets: {s: {file: ${served.folder}/s.txt}, unused: {file: ${served.folder}/s.txt}}
`
  const deploy = (...words: readonly string[]) =>
    served.stack(['deploy', '-d', '--resolve-image', 'never', '-c', '-', ...words], text)
  const ran = await deploy('st', 'a')
  t.equal(ran.stdout, 'Creating network st_n\nCreating secret st_s\nCreating service st_a\n')
  t.match(await deploy('st', 'bb'), {
    exitCode: 1,
    stderr: 'no such service in the Compose file: bb (did you mean b?)\n',
  })
  t.match(await deploy('--prune', 'st', 'a'), { exitCode: 1, stderr: /^--prune is for the whole stack/ })
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
