// The Docker executor's pure parts: templates, references, the container's body where a real engine shows too little.

import t from 'tap'
import { expandTemplate } from '../../src/lib/go-template.ts'
import { containerBody, type SocketSource } from '../../src/worker/docker/container-body.ts'
import { nodeDescription } from '../../src/worker/docker/describe-engine.ts'
import { checkFeatures } from '../../src/worker/docker/engine-features.ts'
import { splitReference } from '../../src/worker/docker/image-puller.ts'
import { Limiter } from '../../src/worker/docker/limiter.ts'
import { observed } from '../../src/worker/docker/observed.ts'
import { makeOrder, makeTask } from './task-factory.ts'

const DATA = {
  Service: { Name: 'web', Labels: { 'a.b': 'dotted', tier: 'front' } },
  Task: { Slot: '2' },
  List: ['x', 'y', 'z'],
  Empty: '',
}

t.test('templates expand as Go expands them', async (t) => {
  const expand = (text: string) => expandTemplate(text, DATA, { secret: (name) => `<${String(name)}>` })
  const cases: readonly (readonly [string, string])[] = [
    ['plain } text {', 'plain } text {'],
    ['{{.Service.Name}}-{{ .Task.Slot }}', 'web-2'],
    ['{{index .Service.Labels "a.b"}}', 'dotted'],
    ['{{index .Service.Labels "none"}}|', '|'],
    ['{{.Service.Labels.tier}}', 'front'],
    ['{{join .List ","}}', 'x,y,z'],
    ['{{secret "pw" | printf "%s!%%"}}', '<pw>!%'],
    ['{{ "a}}b" }}', 'a}}b'],
    ['{{`raw`}}{{/* said nothing */}}', 'raw'],
    ['a {{- 1 -}} b', 'a1b'],
    ['{{if .Empty}}yes{{else if eq .Task.Slot "2"}}two{{else}}no{{end}}', 'two'],
    ['{{if not .Empty}}empty{{end}}{{if and .Empty 1}}x{{end}}', 'empty'],
    ['{{range .List}}[{{.}}]{{else}}none{{end}}', '[x][y][z]'],
    ['{{with .Service}}{{.Name}}{{end}}', 'web'],
    ['{{(index .List 1)}} {{len .List}}', 'y 3'],
    ['{{printf "%q %v" .Task.Slot .List}}', '"2" [x y z]'],
    ['{{.Service.Labels}}', 'map[a.b:dotted tier:front]'],
    ['a\nb {{ if eq .Task.Slot "2" }}\nc{{ end }}', 'a\nb \nc'],
  ]
  for (const [text, expected] of cases) t.equal(expand(text), expected, text)
})

t.test('a template that cannot be expanded is an error, not an empty text', async (t) => {
  const expand = (text: string) => () => expandTemplate(text, DATA)
  for (const text of [
    '{{.Nothing}}',
    '{{.Service.Nmae}}',
    '{{.Task.Slot',
    '{{nope "x"}}',
    '{{if .Empty}}',
    '{{end}}',
    '{{$x := 1}}',
    '{{.List.x}}',
    '{{template "x"}}',
    '{{index .List 9}}',
    '{{}}',
    '{{.Service .Task}}',
  ])
    t.throws(expand(text), { message: /^template: / }, text)
  t.throws(expand('{{.__proto__}}'), { message: /can't evaluate field __proto__/ })
})

t.test('an image reference without a tag means latest, and a digest outweighs a tag', async (t) => {
  const digest = `sha256:${'a'.repeat(64)}`
  t.strictSame(splitReference('nginx'), { name: 'nginx', tag: 'latest' })
  t.strictSame(splitReference('localhost:5000/a/b'), { name: 'localhost:5000/a/b', tag: 'latest' })
  t.strictSame(splitReference('localhost:5000/a/b:1'), { name: 'localhost:5000/a/b', tag: '1' })
  t.strictSame(splitReference(`nginx:1@${digest}`), { name: 'nginx', tag: digest })
})

t.test('a mount of type cluster, which CSI would make, fails the task by its name', async (t) => {
  const mount = { Type: 'cluster' as const, Source: 'group:fast', Target: '/srv', ClusterOptions: {} }
  t.throws(() => checkFeatures({ Image: 'x', Mounts: [mount] }, '1.51'), {
    code: 'TASK_FAILED',
    message: 'mounts of type "cluster" are not supported on this node',
  })
})

t.test("a bind of the engine's socket is given swarmd's, and follows it where it can", async (t) => {
  const asked = { Type: 'bind' as const, Source: '/var/run/docker.sock', Target: '/sock', ReadOnly: true }
  const mountOf = (dockerSocket: SocketSource | undefined) => {
    const spec = { Image: 'x', Mounts: [asked] }
    const body = containerBody(makeOrder(makeTask({ id: 'a' })), { spec, files: [], dockerSocket })
    return (body.HostConfig as { Mounts: unknown[] }).Mounts
  }
  t.strictSame(mountOf(undefined), [asked], 'the cluster wants the engine itself')
  t.strictSame(mountOf({ path: '/run/s', isShared: false }), [{ ...asked, Source: '/run/s' }])
  t.strictSame(mountOf({ path: '/run/s', isShared: true }), [
    { ...asked, Source: '/run/s', BindOptions: { Propagation: 'rslave' } },
  ])
})

t.test('command and args become entrypoint and command as in Swarm', async (t) => {
  const body = (spec: object) => {
    const task = makeTask({ id: 'a' })
    return containerBody(makeOrder(task), { spec: { Image: 'x', ...spec }, files: [], dockerSocket: undefined })
  }
  t.match(body({ Command: ['a'], Args: ['b'] }), { Entrypoint: ['a'], Cmd: ['b'] })
  t.match(body({ Args: ['b'] }), { Entrypoint: undefined, Cmd: ['b'] })
  t.notOk('Cmd' in body({ Command: ['a'] }))
  t.notOk('Healthcheck' in body({}), 'the image’s own stays')
  t.match(body({ StopGracePeriod: 1_500_000_000 }), { StopTimeout: 2 })
  t.equal(body({ StopGracePeriod: 0 }).StopTimeout, 0)
  t.notOk('StopTimeout' in body({ StopGracePeriod: null }), 'Go sends null for nil')
  t.match(
    body({
      Mounts: [{ Type: 'bind', Source: '/var/run/docker.sock', Target: '/s' }],
      Privileges: {
        Seccomp: { Mode: 'custom', Profile: Buffer.from('{"a":1}').toString('base64') },
        AppArmor: { Mode: 'disabled' },
        SELinuxContext: { User: 'u', Role: 'r', Type: 't', Level: 'l' },
      },
    }),
    {
      HostConfig: {
        Mounts: [{ Type: 'bind', Source: '/var/run/docker.sock', Target: '/s' }],
        SecurityOpt: [
          'label=user:u',
          'label=role:r',
          'label=level:l',
          'label=type:t',
          'seccomp={"a":1}',
          'apparmor=unconfined',
        ],
      },
    },
  )
})

t.test('given generic resources and the cluster’s log driver reach the container', async (t) => {
  const task = {
    ...makeTask({ id: 'a' }),
    logDriver: { Name: 'local' },
    genericResources: [
      { NamedResourceSpec: { Kind: 'gpu', Value: 'g1' } },
      { NamedResourceSpec: { Kind: 'gpu', Value: 'g2' } },
      { DiscreteResourceSpec: { Kind: 'ssd', Value: 3 } },
    ],
  }
  t.match(containerBody(makeOrder(task), { spec: { Image: 'x' }, files: [], dockerSocket: undefined }), {
    Env: ['DOCKER_RESOURCE_GPU=g1,g2', 'DOCKER_RESOURCE_SSD=3'],
    HostConfig: { LogConfig: { Type: 'local', Config: {} } },
  })
})

t.test('a field that is newer than the engine is refused by its name', async (t) => {
  const refused = (spec: object, version: string) => {
    try {
      checkFeatures(spec, version)
      return ''
    } catch (error) {
      return error instanceof Error ? error.message : ''
    }
  }
  const subpath = { Mounts: [{ Type: 'volume', VolumeOptions: { Subpath: 'a' } }] }
  t.equal(refused(subpath, '1.45'), '')
  t.match(refused(subpath, '1.44'), /^Mounts.VolumeOptions.Subpath needs a Docker Engine with API 1.45 or later/)
  t.match(refused({ Mounts: [{ Type: 'image' }] }, '1.41'), /API 1.48/)
  t.match(refused({ Mounts: [{ Type: 'bind', BindOptions: { CreateMountpoint: true } }] }, '1.41'), /API 1.42/)
  t.match(refused({ Mounts: [{ Type: 'cluster' }] }, '1.51'), /not supported/)
  t.equal(refused({ Mounts: null, Privileges: null }, '1.41'), '')
})

t.test('bound ports of both address families are one', async (t) => {
  const container = observed({
    Id: 'c1',
    State: { Status: 'paused', Pid: 5, ExitCode: 0, Error: '', Health: { Status: 'none' } },
    Config: { Labels: { 'com.docker.swarm.task.id': 't1' }, Tty: false },
    NetworkSettings: { Ports: { '80/tcp': [{ HostPort: '32768' }, { HostPort: '32768' }], '90/udp': null } },
  })
  t.match(container, { taskId: 't1', state: 'running', health: 'none' })
  t.strictSame(container.ports, [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 32_768, PublishMode: 'host' }])
})

t.test('an engine’s info becomes a node’s description, in a fixed order', async (t) => {
  const info = {
    ...{ Name: 'h', OSType: 'linux', Architecture: 'x86_64', NCPU: 2, MemTotal: 5, ServerVersion: '20.10' },
    Labels: ['b=1=2', 'a'],
    Plugins: { Network: ['null', 'bridge'], Volume: ['local'], Authorization: null, Log: null },
  }
  t.strictSame(nodeDescription(info), {
    Hostname: 'h',
    Platform: { Architecture: 'x86_64', OS: 'linux' },
    Resources: { NanoCPUs: 2e9, MemoryBytes: 5 },
    Engine: {
      EngineVersion: '20.10',
      Labels: { a: '', b: '1=2' },
      Plugins: [
        { Type: 'Network', Name: 'bridge' },
        { Type: 'Network', Name: 'null' },
        { Type: 'Volume', Name: 'local' },
      ],
    },
  })
})

t.test('a limiter runs so many at once, in order, also when some fail', async (t) => {
  const limiter = new Limiter(2)
  let active = 0
  let most = 0
  const order: number[] = []
  const runs = Array.from({ length: 7 }, (_, at) =>
    limiter.run('begin', async () => {
      order.push(at)
      most = Math.max(most, ++active)
      await new Promise((resolve) => setImmediate(resolve))
      active--
      if (at % 2 === 0) throw new Error('failed')
    }),
  )
  const last = limiter.run('finish', async () => {
    order.push(99)
  })
  await Promise.allSettled([...runs, last])
  t.equal(most, 2)
  t.strictSame(order, [0, 1, 99, 2, 3, 4, 5, 6], 'what finishes something goes first')
})

t.test('of a mount the engine is told all that it can have', async (t) => {
  const Mounts = [
    {
      Type: 'bind',
      Source: '/a',
      Target: '/a',
      ReadOnly: true,
      Consistency: 'cached',
      BindOptions: {
        Propagation: 'rslave',
        NonRecursive: true,
        CreateMountpoint: true,
        ReadOnlyNonRecursive: true,
        ReadOnlyForceRecursive: true,
      },
    },
    { Type: 'image', Source: 'nginx:1', Target: '/b', ImageOptions: { Subpath: 'etc' } },
    { Type: 'volume', Source: 'v', Target: '/c', VolumeOptions: { NoCopy: true, Subpath: 'x' } },
    { Type: 'tmpfs', Target: '/d', TmpfsOptions: { SizeBytes: 5, Mode: 511, Options: [['noexec']] } },
  ] as const
  const body = containerBody(makeOrder(makeTask({ id: 'a' })), {
    spec: { Image: 'x', Mounts },
    files: [],
    dockerSocket: undefined,
  })
  t.match(body.HostConfig, { Mounts })
})
