import t from 'tap'
import { SimulatedCluster } from './simulated-cluster.ts'

t.test('a cluster of one commits what it is given and answers with its state machine', async (t) => {
  const cluster = new SimulatedCluster(1)
  const { node, machine } = await cluster.start('n1', { bootstrap: true })
  await cluster.leader()
  t.equal(await cluster.wait(node.propose(Buffer.from('a'))), 1)
  t.equal(await cluster.wait(node.propose(Buffer.from('b'))), 2)
  t.same(machine.texts, ['a', 'b'])
})

t.test('three members apply the same entries, whoever proposes', async (t) => {
  const cluster = new SimulatedCluster(2)
  const [n1, n2, n3] = await cluster.grow(3)
  const answers = [
    n1!.node.propose(Buffer.from('a')),
    n2!.node.propose(Buffer.from('b')),
    n3!.node.propose(Buffer.from('c')),
  ]
  const results = await cluster.wait(Promise.all(answers))
  await cluster.converged()
  t.same(
    [...results].sort((a, b) => a - b),
    [1, 2, 3],
  )
  t.same(n2!.machine.texts, n1!.machine.texts)
  t.same(n3!.machine.texts, n1!.machine.texts)
  t.same([...n1!.machine.texts].sort(), ['a', 'b', 'c'])
  // Each answer is that of the entry itself, not of a neighbour.
  t.same(
    results.map((place) => n1!.machine.texts[place - 1]),
    ['a', 'b', 'c'],
  )
})
