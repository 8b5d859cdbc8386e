# SPDX-License-Identifier: Apache-2.0
# Checks the structure that viewers of PyTorch memory snapshots rely on. Loads plain data only.
import pickle
import sys


class PlainData(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"names {module}.{name}")


STATES = {"active_allocated", "active_pending_free", "active_awaiting_free", "inactive"}
ACTIONS = {"alloc", "free_requested", "free_completed", "segment_alloc", "segment_free",
           "segment_map", "segment_unmap", "snapshot", "oom"}


def check_frames(frames):
    assert isinstance(frames, list)
    for frame in frames:
        assert isinstance(frame["name"], str) and isinstance(frame["filename"], str)
        assert isinstance(frame["line"], int)


def check(path):
    with open(path, "rb") as file:
        snapshot = PlainData(file).load()
        assert file.read() == b"", "bytes after the pickle"
    assert isinstance(snapshot["allocator_settings"], dict)
    assert isinstance(snapshot["external_annotations"], list)
    blocks = events = 0
    end = 0
    for segment in snapshot["segments"]:
        assert segment["address"] >= end, "segments overlap or are out of order"
        end = segment["address"] + segment["total_size"]
        assert segment["segment_type"] in ("large", "small")
        assert isinstance(segment["segment_pool_id"], tuple) and len(segment["segment_pool_id"]) == 2
        assert isinstance(segment["is_expandable"], bool)
        assert isinstance(segment["stream"], int) and isinstance(segment["device"], int)
        check_frames(segment["frames"])
        address = segment["address"]
        sums = {"active_allocated": 0, "active": 0, "requested": 0}
        for block in segment["blocks"]:
            assert block["address"] == address, "blocks do not follow each other"
            assert block["state"] in STATES
            assert block["size"] > 0 and block["requested_size"] >= 0
            assert block["state"] == "inactive" or block["requested_size"] <= block["size"]
            check_frames(block["frames"])
            address += block["size"]
            if block["state"] != "inactive":
                sums["active"] += block["size"]
                sums["requested"] += block["requested_size"]
            if block["state"] == "active_allocated":
                sums["active_allocated"] += block["size"]
            blocks += 1
        assert address == end, "blocks do not fill their segment"
        assert segment["allocated_size"] == sums["active_allocated"]
        assert segment["active_size"] == sums["active"]
        assert segment["requested_size"] == sums["requested"]
    for trace in snapshot["device_traces"]:
        time_us = 0
        for event in trace:
            assert event["action"] in ACTIONS
            assert isinstance(event["device_free" if event["action"] == "oom" else "addr"], int)
            assert isinstance(event["size"], int) and isinstance(event["stream"], int)
            assert event["time_us"] >= time_us, "time runs backwards"
            time_us = event["time_us"]
            check_frames(event["frames"])
            events += 1
    print(f"{len(snapshot['segments'])} segments, {blocks} blocks, {events} events")


check(sys.argv[1])
