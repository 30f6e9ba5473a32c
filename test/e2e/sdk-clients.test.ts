// Clients that are not the docker CLI: Docker's Python SDK, dockerode, and a reader that polls as Traefik's swarm provider
// does. One machine, real tasks.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import Docker from 'dockerode'
import t from 'tap'
import { projectRoot } from '../../lab/layout.ts'
import { run } from '../../lab/run.ts'
import { bareLab } from './support/fresh-cluster.ts'
import { waitFor } from './support/wait-for.ts'

const WAIT_MS = 60_000
const lab = await bareLab(t)
const host = lab.host('n1')
const socketPath = host.paths.swarmdSocket
const docker = new Docker({ socketPath })

/** A Python of this machine that has the SDK, Debian's first; undefined: none. */
async function pythonWithDocker(): Promise<string | undefined> {
  for (const program of ['/usr/bin/python3', 'python3']) {
    if (program.startsWith('/') && !existsSync(program)) continue
    if ((await run([program, '-c', 'import docker'])).code === 0) return program
  }
  return undefined
}

interface Task {
  readonly ServiceID: string
  readonly NodeID: string
  readonly Slot: number
  readonly Status: { readonly State: string }
  readonly NetworksAttachments: readonly {
    readonly Network: { readonly ID: string; readonly Spec: { readonly Name: string } }
    readonly Addresses: readonly string[]
  }[]
}

t.test('a swarm is made with dockerode', async (t) => {
  await docker.swarmInit({ ListenAddr: '0.0.0.0:2377', AdvertiseAddr: host.address })
  t.match(await docker.swarmInspect(), { JoinTokens: { Worker: /^SWMTKN-1-/ } })
})

t.test('Docker’s Python SDK', async (t) => {
  const python = await pythonWithDocker()
  if (python === undefined) {
    t.fail('no Python with the docker package: scripts/deps.sh --tests installs it')
    return
  }
  const script = join(projectRoot, 'test/e2e/support/python-sdk.py')
  const { code, stdout, stderr } = await run([python, script, `unix://${socketPath}`, 'py-'])
  t.match({ code, stdout, stderr }, { code: 0, stdout: 'ok\n', stderr: '' })
})

t.test('dockerode, and a reader like Traefik’s', async (t) => {
  const events: { Type?: string; Action?: string; Actor?: { ID?: string } }[] = []
  const stream = await docker.getEvents({ filters: { scope: ['swarm'] } })
  stream.on('data', (chunk: Buffer) => {
    for (const line of chunk.toString().split('\n').filter(Boolean)) events.push(JSON.parse(line) as object)
  })
  t.teardown(() => (stream as unknown as { destroy(): void }).destroy())

  const secret = await docker.createSecret({ Name: 'node-secret', Data: Buffer.from('x').toString('base64') })
  const config = await docker.createConfig({ Name: 'node-config', Data: Buffer.from('x').toString('base64') })
  const network = await docker.createNetwork({ Name: 'node-net', Driver: 'overlay' })
  const spec = {
    Name: 'node-web',
    Labels: {
      'traefik.enable': 'true',
      'io.swarmctl.drain': '0s',
      'traefik.http.services.web.loadbalancer.server.port': '8080',
    },
    TaskTemplate: {
      ContainerSpec: { Image: 'alpine:latest', Command: ['sh', '-c', 'echo up; exec sleep 600'], StopGracePeriod: 1e9 },
      Networks: [{ Target: network.id }],
    },
    Mode: { Replicated: { Replicas: 2 } },
    EndpointSpec: { Mode: 'vip' },
  }
  const { id } = (await docker.createService(spec)) as { readonly id: string }
  const service = docker.getService(id)

  // Traefik: ServerVersion, ServiceList, NetworkList(scope=swarm), TaskList(service, desired-state=running), NodeInspect
  const poll = async () => {
    await docker.version()
    const services = await docker.listServices()
    const networks = await docker.listNetworks({ filters: { scope: ['swarm'] } })
    const names = new Map(networks.map(({ Id, Name }) => [Id, Name]))
    const found: { service: string; network: string | undefined; address: string; node: string }[] = []
    for (const { ID, Spec, Endpoint } of services) {
      if (Spec?.Labels?.['traefik.enable'] !== 'true') continue
      t.equal((Endpoint as { Spec?: { Mode?: string } }).Spec?.Mode, 'vip')
      const filters = { service: [ID], 'desired-state': ['running'] }
      const tasks = (await docker.listTasks({ filters })) as readonly Task[]
      for (const task of tasks.filter(({ Status }) => Status.State === 'running')) {
        const node = (await docker.getNode(task.NodeID).inspect()) as { Status: { Addr: string } }
        for (const { Network, Addresses } of task.NetworksAttachments) {
          found.push({
            service: `${Spec.Name}.${task.Slot}`,
            network: names.get(Network.ID),
            address: Addresses[0] ?? '',
            node: node.Status.Addr,
          })
        }
      }
    }
    return found
  }
  const found = await waitFor(
    'both tasks have addresses',
    async () => {
      const servers = await poll()
      return servers.length === 2 && servers
    },
    WAIT_MS,
    socketPath,
  )
  t.same(found.map((one) => one.service).sort(), ['node-web.1', 'node-web.2'])
  for (const server of found) {
    t.match(server, { network: 'node-net', address: /^10\.\d+\.\d+\.\d+\/\d+$/, node: host.address })
  }

  const text = async () => String(await service.logs({ stdout: true, stderr: true }))
  await waitFor(
    'both tasks have said something',
    async () => (await text()).split('up\n').length === 3,
    WAIT_MS,
    socketPath,
  )
  const before = (await service.inspect()) as { Version: { Index: number }; Spec: typeof spec }
  await service.update({ ...before.Spec, version: before.Version.Index, Labels: { changed: 'yes' } })
  t.match(await service.inspect(), { Spec: { Labels: { changed: 'yes' } }, PreviousSpec: { Labels: spec.Labels } })
  await t.rejects(service.update({ ...before.Spec, version: before.Version.Index }), /update out of sequence/)
  await t.rejects(docker.getService('absent').inspect(), /service absent not found/)

  await service.remove()
  await secret.remove()
  await config.remove()
  await waitFor(
    'the network is free',
    () =>
      network.remove().then(
        () => true,
        () => false,
      ),
    WAIT_MS,
    socketPath,
  )
  const kinds = () => new Set(events.map(({ Type, Action }) => `${Type} ${Action}`))
  for (const kind of ['service', 'secret', 'config', 'network']) {
    for (const action of ['create', 'remove']) {
      await waitFor(`${kind} ${action}`, async () => kinds().has(`${kind} ${action}`), WAIT_MS, socketPath)
    }
  }
  t.ok(kinds().has('service update'))
})
