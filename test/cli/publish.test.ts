// Addresses on the command line: of published ports, and services' own on networks. Docker's API has no fields: they are labels of the
// service, which are made, changed and taken away with the ports and networks that they are of, and shown with them.

import t from 'tap'
import { pullPolicy } from '../../src/api/service-labels.ts'
import type { PortConfig, ServiceSpec } from '../../src/api/spec.ts'
import { Flags } from '../../src/cli/flags.ts'
import { scan } from '../../src/cli/scan.ts'
import { createSpec } from '../../src/cli/service/create-spec.ts'
import { createFlags, updateCommandFlags } from '../../src/cli/service/flags.ts'
import { resolveImage } from '../../src/cli/service/image-digest.ts'
import { ingressPorts } from '../../src/cli/service/listing.ts'
import { parsePublications } from '../../src/cli/service/ports.ts'
import { prettyService } from '../../src/cli/service/pretty.ts'
import { Resolved } from '../../src/cli/service/resolve.ts'
import { updateSpec } from '../../src/cli/service/update-spec.ts'
import { swarmctl } from './compose-run.ts'

const resolved = new Resolved({
  networks: new Map([
    ['front', 'front-id'],
    ['front-id', 'front-id'],
    ['back', 'back-id'],
  ]),
  networkNames: new Map([['front-id', 'front']]),
})
const create = (...words: readonly string[]): ServiceSpec => {
  const scanned = scan([...words, 'nginx'], createFlags, {}, { stopAtOperand: true })
  return createSpec(new Flags(scanned.values), scanned.rest, resolved, [])
}
const update = (spec: ServiceSpec, ...words: readonly string[]): ServiceSpec =>
  updateSpec(spec, new Flags(scan([...words, 'web'], updateCommandFlags, {}).values), resolved)
const publish = (port: string, addresses: string) => ({ [`io.swarmctl.publish.${port}`]: addresses })
const portsOf = ({ EndpointSpec }: ServiceSpec) => EndpointSpec?.Ports?.map(({ PublishedPort }) => PublishedPort)

t.test('--publish with an address', async (t) => {
  const one = create('--publish', '127.0.0.1:8080:80', '-l', 'a=b')
  t.same(one.Labels, { ...publish('8080/tcp', '127.0.0.1'), a: 'b' })
  t.same(one.EndpointSpec?.Ports, [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' }])
  t.same(create('-p', '[fd00::1]:53:53/udp').Labels, publish('53/udp', 'fd00::1'))
  t.same(create('-p', '10.1.0.0/16:80-81:80-81').Labels, {
    ...publish('80/tcp', '10.1.0.0/16'),
    ...publish('81/tcp', '10.1.0.0/16'),
  })
  const long = create('--publish', 'published=8080,target=80,mode=host,host-ip=127.0.0.1,host-ip=Eth1')
  t.same(long.Labels, publish('8080/tcp', '127.0.0.1,Eth1'))
  const twice = create('-p', '127.0.0.1:8080:80', '-p', '10.0.0.1:8080:80')
  t.same([twice.Labels, portsOf(twice)], [publish('8080/tcp', '127.0.0.1,10.0.0.1'), [8080]], 'one port')
  t.same(create('-p', '0.0.0.0:8080:80', '-p', '[::]:8081:80').Labels, {})
  t.same(
    portsOf(create('-p', '127.0.0.1:8080:80', '-p', '8080:80')),
    [8080, 8080],
    'refused by managers: it says two things',
  )
  for (const [text, wanted] of [
    ['127.0.0.1::80', 'a port that is published on 127.0.0.1 needs a published port'],
    ['127.0.0.1:80', 'invalid hostPort: 127.0.0.1'],
    ['localhost:80:80', 'invalid IP address: localhost'],
    ['target=80,published=80,host-ip=localhost', /invalid host IP: invalid value "localhost"/],
    ['target=80,published=80,host-ip=fe80::1', /"fe80::1" is on every link: name an interface/],
  ] as const) {
    t.throws(() => parsePublications(text), { message: wanted }, text)
  }
  t.match((await swarmctl(['service', 'create', '-p', '1.2.3:80:80', 'x'], {})).stderr, /invalid IP address: 1\.2\.3/)
})

t.test('--publish-add and --publish-rm', async (t) => {
  const before = create('-p', '127.0.0.1:8080:80', '-l', 'a=b')
  t.same(update(before, '--env-add', 'X=1').Labels, before.Labels)
  t.same(update(before, '--publish-rm', '80').Labels, { a: 'b' }, 'it goes with its port')
  t.same(update(before, '--publish-add', '10.0.0.1:8080:80').Labels, { a: 'b', ...publish('8080/tcp', '10.0.0.1') })
  const opened = update(before, '--publish-add', '8080:80')
  t.same([opened.Labels, portsOf(opened)], [{ a: 'b' }, [8080]], 'opened for all')
  const more = update(before, '--publish-add', '[fd00::1]:81:81', '--label-rm', 'a')
  t.same(more.Labels, { ...publish('8080/tcp', '127.0.0.1'), ...publish('81/tcp', 'fd00::1') })
})

t.test('--network with an address, --network-add and --network-rm', async (t) => {
  const own = { 'io.swarmctl.network.front.ip': '10.0.9.10,fd00::10' }
  const service = create('--network', 'name=front,alias=www,ip=10.0.9.10,ip6=FD00:0::10')
  t.same(service.Labels, own)
  t.same(service.TaskTemplate?.Networks, [{ Target: 'front-id', Aliases: ['www'] }])
  t.same(create('--network', 'name=front-id,ip=10.0.9.10').Labels, { 'io.swarmctl.network.front.ip': '10.0.9.10' })
  t.same(update(service, '--network-add', 'name=back,ip=10.0.8.8').Labels, {
    ...own,
    'io.swarmctl.network.back.ip': '10.0.8.8',
  })
  t.same(update(service, '--network-rm', 'front-id').Labels, {})
  t.same(update(service, '--network-rm', 'front', '--network-add', 'name=back').Labels, {})
  t.throws(() => create('--network', 'name=front,ip=fd00::1'), { message: 'invalid IPv4 address: fd00::1' })
  t.throws(() => create('--network', 'name=front,ip6=x'), { message: 'invalid IPv6 address: x' })
})

t.test('what is listed and inspected', async (t) => {
  const port = (published: number, over: PortConfig = {}): PortConfig => ({
    Protocol: 'tcp',
    TargetPort: published,
    PublishedPort: published,
    PublishMode: 'ingress',
    ...over,
  })
  const labels = { ...publish('80/tcp', '127.0.0.1,fd00::1'), ...publish('81/tcp', '127.0.0.1') }
  const ports = [port(80), port(81), port(82)]
  t.equal(ingressPorts(ports, labels), '*:82->82/tcp, 127.0.0.1:80-81->80-81/tcp, [fd00::1]:80->80/tcp')
  const service = {
    ID: 'abc',
    Version: { Index: 1 },
    CreatedAt: '',
    UpdatedAt: '',
    Spec: { Name: 'web', Labels: publish('8080/tcp', '127.0.0.1') },
    Endpoint: { Ports: [port(8080, { TargetPort: 80 }), port(90)] },
  }
  t.match(
    prettyService(service, new Map(), 0),
    /PublishMode = ingress\n {2}Address = 127\.0\.0\.1:8080->80\/tcp\n PublishedPort = 90\n {2}Protocol = tcp\n {2}TargetPort = 90\n {2}PublishMode = ingress \n/,
  )
})

t.test('an image that is to be taken as it is on the nodes is not pinned to what the registry has', async (t) => {
  const never: never = undefined as never
  const options = { query: true, registryAuth: '' }
  for (const value of ['missing', 'never']) {
    const Labels = { 'io.swarmctl.pull-policy': value }
    t.equal(pullPolicy(Labels), value)
    const spec = { Labels, TaskTemplate: { ContainerSpec: { Image: 'app' } } }
    const { spec: sent } = await resolveImage(never, spec, options)
    t.equal(sent.TaskTemplate?.ContainerSpec?.Image, 'app:latest')
  }
})
