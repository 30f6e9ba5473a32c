// Which addresses a node listens on and tells others: Docker's rules and texts.

import t from 'tap'
import { chooseAddresses, type InterfaceAddress, localAddress } from '../../src/daemon/addresses.ts'
import { mtuOfAddress } from '../../src/overlay/host-facts.ts'

const eth0: InterfaceAddress = { interface: 'eth0', address: '10.0.0.5', family: 4 }
const eth1: InterfaceAddress = { interface: 'eth1', address: '192.168.1.5', family: 4 }
const docker0: InterfaceAddress = { interface: 'docker0', address: '172.17.0.1', family: 4 }
const asked = (listen = '', advertise = '', dataPath = '') => ({ listen, advertise, dataPath })

t.test('a machine with one address needs no flag, and bridges of containers do not count', async (t) => {
  t.strictSame(chooseAddresses(asked(), '', [eth0, docker0]), {
    listen: '0.0.0.0:2377',
    advertise: '10.0.0.5:2377',
    dataPath: '',
  })
})

t.test('a machine with several addresses has to say which, in Docker’s words', async (t) => {
  t.throws(() => chooseAddresses(asked(), '', [eth0, eth1]), {
    code: 'INVALID_ADDRESS',
    message:
      'could not choose an IP address to advertise since this system has multiple addresses on different interfaces (10.0.0.5 on eth0 and 192.168.1.5 on eth1) - specify one with --advertise-addr',
  })
  t.equal(chooseAddresses(asked('', 'eth1'), '', [eth0, eth1]).advertise, '192.168.1.5:2377')
  t.equal(chooseAddresses(asked('', '10.9.9.9:4000'), '', [eth0, eth1]).advertise, '10.9.9.9:4000')
  t.equal(chooseAddresses(asked(), 'eth1', [eth0, eth1]).advertise, '192.168.1.5:2377', 'the daemon’s default')
})

t.test('a listen address with an IP is advertised, its port too', async (t) => {
  t.strictSame(chooseAddresses(asked('eth1:2400', '', 'eth0'), '', [eth0, eth1]), {
    listen: '192.168.1.5:2400',
    advertise: '192.168.1.5:2400',
    dataPath: '10.0.0.5',
  })
})

t.test('what is neither an address nor an interface is refused by name', async (t) => {
  t.throws(() => chooseAddresses(asked('', 'eth9'), '', [eth0]), /advertise address must be .*"eth9" is neither/)
  t.throws(() => chooseAddresses(asked('', '0.0.0.0'), '', [eth0]), /advertise address must be a non-zero IP address/)
  t.throws(() => chooseAddresses(asked('1.2.3.4:99999'), '', [eth0]), { code: 'INVALID_ADDRESS' })
})

t.test('a machine reaches its own control port on itself', async (t) => {
  t.equal(localAddress('0.0.0.0:2377'), '127.0.0.1:2377')
  t.equal(localAddress('[::]:2377'), '[::1]:2377')
  t.equal(localAddress('10.0.0.5:2400'), '10.0.0.5:2400')
})

t.test('a node that advertises a loopback address tells of packets that there are', async (t) => {
  const mtu = await mtuOfAddress('127.0.0.1')
  t.ok(mtu > 0 && mtu <= 65_535, `${mtu}`)
})
