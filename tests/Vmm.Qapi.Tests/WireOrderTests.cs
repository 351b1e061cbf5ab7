using Vmm.Qapi;

namespace Vmm.Qapi.Tests;

public sealed class WireOrderTests
{
    [TestCase("""{"major":7,"minor":2,"micro":22}""", """{"micro": 22, "minor": 2, "major": 7}""")]
    [TestCase("""{"id":1,"return":{}}""", """{"return": {}, "id": 1}""")]
    [TestCase("""{"error":{},"id":1}""", """{"id": 1, "error": {}}""")]
    [TestCase("""{"desc":"","class":""}""", """{"class": "", "desc": ""}""")]
    [TestCase("""{"event":"X","data":{},"timestamp":{"microseconds":1,"seconds":2}}""",
        """{"timestamp": {"seconds": 2, "microseconds": 1}, "event": "X", "data": {}}""")]
    [TestCase("""{"type":"t","device":"d","len":1,"offset":2,"speed":3}""",
        """{"device": "d", "len": 1, "offset": 2, "speed": 3, "type": "t"}""")]
    [TestCase("""{"running":false,"singlestep":false,"status":"prelaunch"}""",
        """{"status": "prelaunch", "singlestep": false, "running": false}""")]
    public void MembersAreInTheOrderSeenOnTheWire(string input, string output) =>
        Assert.That(QValue.Parse(input).ToJson(), Is.EqualTo(output));

    [Test]
    public void OrderSurvivesManyMembersAndRemoval()
    {
        var dict = new QDict();
        for (int i = 0; i < 1000; i++)
        {
            dict.Add("key" + i, i);
        }

        Assert.That(dict.Remove("key500"));
        Assert.That(dict.Remove("key500"), Is.False);
        dict["key7"] = "replaced";
        List<KeyValuePair<string, QValue>> members = dict.ToList();
        Assert.That(members, Has.Count.EqualTo(999));
        for (int i = 1; i < members.Count; i++)
        {
            int before = WireOrder.Bucket(members[i - 1].Key);
            int after = WireOrder.Bucket(members[i].Key);
            bool ordered = before < after
                || (before == after && int.Parse(members[i - 1].Key[3..]) > int.Parse(members[i].Key[3..]));
            Assert.That(ordered, members[i - 1].Key + " before " + members[i].Key);
        }

        Assert.That(dict["key7"].ToJson(), Is.EqualTo("\"replaced\""));
        Assert.That(dict["key999"].ToJson(), Is.EqualTo("999"));
    }

    [Test]
    public void PrettyFormIsQemus() => Assert.That(
        QValue.Parse("""{"return":{"a":[]},"id":[[],{},[1,[2]],"x"]}""").ToJson(pretty: true),
        Is.EqualTo("""
            {
                "return": {
                    "a": [
                    ]
                },
                "id": [
                    [
                    ],
                    {
                    },
                    [
                        1,
                        [
                            2
                        ]
                    ],
                    "x"
                ]
            }
            """));
}
